"""psycopg2, which puts parameters into the text."""
import io
import select

import psycopg2
import psycopg2.extras
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT

from check import *

version("psycopg2", psycopg2.__version__.split()[0])
psycopg2.extras.register_uuid()


def connect(url, **more):
    conn = psycopg2.connect(url, **more)
    conn.autocommit = True
    return conn


def run(conn, text, params=None):
    with conn.cursor() as c:
        c.execute(text, params)
        return c.fetchall() if c.description else []


conn = connect(URL)


@check("connect")
def _():
    same(conn.info.transaction_status, 0)


for kind, value in TYPES + [("json", {"a": [1, None]}), ("jsonb", {"a": "b"})]:
    @check("types." + ("null" if value is None else kind))
    def _():
        got = run(conn, f"SELECT CAST(%s AS {kind})", (psycopg2.extras.Json(value) if isinstance(value, dict) else value,))[0][0]
        same(bytes(got) if kind == "bytea" else got, value)


@check("parameter")
def _():
    for i in range(12):
        same(run(conn, "SELECT %s || %s::int4", ("sent-marker", i))[0][0], f"sent-marker{i}")


@check("batch")
def _():
    run(conn, "CREATE TEMP TABLE batched (id int, note text)")
    with conn.cursor() as c:
        psycopg2.extras.execute_values(c, "INSERT INTO batched VALUES %s", [(i, "n") for i in range(500)])
        psycopg2.extras.execute_batch(c, "INSERT INTO batched VALUES (%s, %s)", [(i, "n") for i in range(500)])
    same(run(conn, "SELECT count(*) FROM batched")[0][0], 1000)


@check("copy")
def _():
    with conn.cursor() as c:
        c.copy_expert("COPY batched FROM STDIN", io.StringIO("".join(f"{i}\tx\n" for i in range(10000))))
        out = io.StringIO()
        c.copy_expert("COPY (SELECT g FROM generate_series(1, 3) g) TO STDOUT", out)
    same(out.getvalue(), "1\n2\n3\n")
    same(run(conn, "SELECT count(*) FROM batched")[0][0], 11000)


@check("copy.error")
def _():
    with conn.cursor() as c:
        same(fails(c.copy_expert, "COPY batched FROM STDIN", io.StringIO("x\ty\n")).pgcode, "22P02")


@check("transaction")
def _():
    other = psycopg2.connect(URL)
    run(other, "CREATE TEMP TABLE kept (id int)")
    run(other, "INSERT INTO kept VALUES (1)")
    run(other, "SAVEPOINT s")
    same(fails(run, other, "SELECT 1 / %s", (0,)).pgcode, "22012")
    same(fails(run, other, "SELECT 1").pgcode, "25P02")
    run(other, "ROLLBACK TO s")
    other.commit()
    run(other, "DELETE FROM kept")
    other.rollback()
    same(run(other, "SELECT count(*) FROM kept")[0][0], 1)
    other.close()


@check("cursor")
def _():
    other = psycopg2.connect(URL)
    with other.cursor("named") as c:
        c.itersize = 100
        c.execute("SELECT g FROM generate_series(1, 250) g")
        same(sum(1 for _ in c), 250)
    other.close()


@check("cancel")
def _():
    after(0.3, conn.cancel)
    same(fails(run, conn, "SELECT pg_sleep(20)").pgcode, "57014")


@check("listen")
def _():
    run(conn, "LISTEN drivers_psycopg2")
    other = connect(URL)
    run(other, "SELECT pg_notify('drivers_psycopg2', %s)", ("told",))
    other.close()
    select.select([conn], [], [], 5)
    conn.poll()
    same(conn.notifies.pop().payload, "told")


@check("notice")
def _():
    run(conn, "DO $$ BEGIN RAISE NOTICE 'noted'; END $$")
    same(conn.notices[-1].strip(), "NOTICE:  noted")


@check("error.position")
def _():
    e = fails(run, conn, "SELECT 1 + no_such_column")
    same((e.pgcode, e.diag.statement_position), ("42703", "12"))


@check("error.detail")
def _():
    run(conn, "CREATE TEMP TABLE uniques (id int PRIMARY KEY)")
    e = fails(run, conn, "INSERT INTO uniques VALUES (1), (1)")
    same((e.pgcode, e.diag.constraint_name, e.diag.message_detail), ("23505", "uniques_pkey", "Key (id)=(1) already exists."))


@check("encoding")
def _():
    other = connect(URL)
    other.set_client_encoding("LATIN1")
    same(run(other, "SELECT %s::text", ("Grüße",))[0][0], "Grüße")
    other.close()


@check("largeobject")
def _():
    other = psycopg2.connect(URL)
    o = other.lobject(0, "wb")
    o.write(b"large")
    oid = o.oid
    o.close()
    same(other.lobject(oid, "rb").read(), b"large")
    other.rollback()
    other.close()


@check("large")
def _():
    same(len(run(conn, "SELECT %s", ("x" * (8 << 20),))[0][0]), 8 << 20)


@check("two_phase")
def _():
    other = psycopg2.connect(URL)
    same(fails(run, other, "PREPARE TRANSACTION 'drivers'").pgcode, "55000")  # max_prepared_transactions is 0
    other.close()


if SUPPORT:
    @check("tls")
    def _():
        same(connect(tls_url()).info.ssl_in_use, True)

    app, support, analyst, backing = (connect(u) for u in (URL, SUPPORT, ANALYST, BACKING))
    protected_sql(run, app, support, analyst, backing, lambda e: e.pgcode)

    @check("protected.execute_values")
    def _():
        with app.cursor() as c:
            rows = psycopg2.extras.execute_values(c, "INSERT INTO people (name, ssn) VALUES %s RETURNING ssn", [("One", SSN1), ("Two", SSN2), ("Three", None)], fetch=True)
        same(rows, [(SSN1,), (SSN2,), (None,)])

    @check("protected.tuple_in")
    def _():
        same(len(run(app, "SELECT name FROM people WHERE ssn IN %s", ((SSN1, SSN2),))), 2)

    @check("protected.any")
    def _():
        same(len(run(app, "SELECT name FROM people WHERE ssn = ANY(%s)", ([SSN1, SSN2],))), 2)

    @check("protected.named_cursor")
    def _():
        other = psycopg2.connect(URL)
        with other.cursor("named") as c:
            c.execute("SELECT ssn FROM people WHERE ssn = %s", (SSN1,))
            same(c.fetchall(), [(SSN1,)])
        other.close()

    @check("protected.clean")
    def _():
        run(app, "DELETE FROM people")
