"""psycopg 3: parameters by the extended protocol, statements prepared after five executions, pipelines, binary."""
import psycopg
from psycopg.types.json import Json, Jsonb

from check import *

version("psycopg", psycopg.__version__)


def connect(url, **more):
    return psycopg.connect(url, autocommit=True, **more)


def run(conn, text, params=None, **more):
    c = conn.execute(text, params, **more)
    return c.fetchall() if c.description else []


conn = connect(URL)


@check("connect")
def _():
    same(conn.info.status.name, "OK")


for kind, value in TYPES + [("json", {"a": [1, None]}), ("jsonb", {"a": "b"})]:
    for binary in (False, True):
        @check("types." + ("null" if value is None else kind) + (".binary" if binary else ""))
        def _():
            v = (Jsonb if kind == "jsonb" else Json)(value) if isinstance(value, dict) else value
            same(run(conn, f"SELECT %s::{kind}", (v,), binary=binary)[0][0], value)


@check("parameter")
def _():
    for i in range(12):
        same(run(conn, "SELECT %s::text || %s::int4", ("sent-marker", i))[0][0], f"sent-marker{i}")


@check("client_cursor")
def _():
    other = connect(URL, cursor_factory=psycopg.ClientCursor)
    for i in range(12):
        same(run(other, "SELECT %s || %s::int4", ("sent-marker", i))[0][0], f"sent-marker{i}")
    other.close()


@check("batch")
def _():
    run(conn, "CREATE TEMP TABLE batched (id int, note text)")
    with conn.cursor() as c:
        c.executemany("INSERT INTO batched VALUES (%s, %s)", [(i, "n") for i in range(500)])
        c.executemany("INSERT INTO batched VALUES (%s, %s) RETURNING id", [(i, "n") for i in range(10)], returning=True)
    same(run(conn, "SELECT count(*) FROM batched")[0][0], 510)


@check("pipeline")
def _():
    with conn.pipeline():
        cursors = [conn.execute("SELECT %s::int4", (i,)) for i in range(200)]
    same([c.fetchone()[0] for c in cursors], list(range(200)))


@check("pipeline.error")
def _():
    def broken():
        with conn.pipeline() as p:
            conn.execute("SELECT 1")
            conn.execute("SELECT 1 / %s::int4", (0,))
            conn.execute("SELECT 2")
            p.sync()
    same(fails(broken).sqlstate, "22012")
    same(run(conn, "SELECT 3")[0][0], 3)


@check("copy")
def _():
    with conn.cursor() as c:
        with c.copy("COPY batched FROM STDIN") as copy:
            for i in range(10000):
                copy.write_row((i, "x"))
        with c.copy("COPY (SELECT g FROM generate_series(1, 3) g) TO STDOUT") as copy:
            same([r[0] for r in copy.rows()], ["1", "2", "3"])
    same(run(conn, "SELECT count(*) FROM batched")[0][0], 10510)


@check("copy.binary")
def _():
    with conn.cursor() as c, c.copy("COPY (SELECT g FROM generate_series(1, 3) g) TO STDOUT (FORMAT binary)") as copy:
        copy.set_types(["int4"])
        same([r[0] for r in copy.rows()], [1, 2, 3])


@check("copy.abandoned")
def _():
    def abandon():
        with conn.cursor() as c, c.copy("COPY batched FROM STDIN") as copy:
            copy.write_row((1, "x"))
            raise KeyError("mine")
    fails(abandon)  # which error depends on the version
    same(run(conn, "SELECT count(*) FROM batched")[0][0], 10510)


@check("transaction")
def _():
    run(conn, "CREATE TEMP TABLE kept (id int)")
    with conn.transaction():
        run(conn, "INSERT INTO kept VALUES (1)")
        def inner():
            with conn.transaction():
                run(conn, "INSERT INTO kept VALUES (1 / %s::int4)", (0,))
        same(fails(inner).sqlstate, "22012")
    with conn.transaction(force_rollback=True):
        run(conn, "DELETE FROM kept")
    same(run(conn, "SELECT count(*) FROM kept")[0][0], 1)


@check("cursor")
def _():
    with conn.transaction(), conn.cursor("named") as c:
        c.execute("SELECT g FROM generate_series(1, 250) g")
        same(len(c.fetchmany(100)) + len(c.fetchall()), 250)


@check("stream")
def _():
    with conn.cursor() as c:
        same(sum(1 for _ in c.stream("SELECT g FROM generate_series(1, 5000) g")), 5000)


@check("cancel")
def _():
    after(0.3, conn.cancel)
    same(fails(run, conn, "SELECT pg_sleep(20)").sqlstate, "57014")


@check("listen")
def _():
    run(conn, "LISTEN drivers_psycopg")
    other = connect(URL)
    run(other, "SELECT pg_notify('drivers_psycopg', %s)", ("told",))
    other.close()
    same(next(conn.notifies()).payload, "told")
    run(conn, "UNLISTEN *")


@check("notice")
def _():
    got = []
    conn.add_notice_handler(lambda d: got.append(d.message_primary))
    run(conn, "DO $$ BEGIN RAISE NOTICE 'noted'; END $$")
    same(got, ["noted"])


@check("error.position")
def _():
    e = fails(run, conn, "SELECT 1 + no_such_column")
    same((e.sqlstate, e.diag.statement_position), ("42703", "12"))


@check("error.detail")
def _():
    run(conn, "CREATE TEMP TABLE uniques (id int PRIMARY KEY)")
    e = fails(run, conn, "INSERT INTO uniques VALUES (%s), (1)", (1,))
    same((e.sqlstate, e.diag.constraint_name, e.diag.message_detail), ("23505", "uniques_pkey", "Key (id)=(1) already exists."))


@check("large")
def _():
    same(len(run(conn, "SELECT %s::text", ("x" * (8 << 20),))[0][0]), 8 << 20)


if SUPPORT:
    @check("tls")
    def _():
        connect(tls_url()).close()

    app, support, analyst, backing = (connect(u) for u in (URL, SUPPORT, ANALYST, BACKING))
    protected_sql(run, app, support, analyst, backing, lambda e: e.sqlstate)

    @check("protected.binary")
    def _():
        same(run(app, "INSERT INTO people (name, ssn) VALUES (%b, %b) RETURNING ssn", ("One", SSN1), binary=True), [(SSN1,)])
        same(run(app, "SELECT ssn FROM people WHERE ssn = %b", (SSN1,), binary=True), [(SSN1,)])

    @check("protected.prepared")
    def _():
        for _ in range(3):
            same(run(app, "SELECT ssn FROM people WHERE ssn = %s", (SSN1,), prepare=True), [(SSN1,)])

    @check("protected.executemany")
    def _():
        with app.cursor() as c:
            c.executemany("INSERT INTO people (name, ssn) VALUES (%s, %s)", [(f"n{i}", f"512-34-{1000 + i}") for i in range(50)])
        same(run(app, "SELECT count(ssn) FROM people")[0][0], 51)

    @check("protected.pipeline")
    def _():
        with app.pipeline():
            cursors = [app.execute("SELECT ssn FROM people WHERE ssn = %s", (f"512-34-{1000 + i}",)) for i in range(50)]
        same([c.fetchone()[0] for c in cursors], [f"512-34-{1000 + i}" for i in range(50)])

    @check("protected.any")
    def _():
        same(len(run(app, "SELECT name FROM people WHERE ssn = ANY(%s)", ([SSN1, SSN2],))), 1)

    @check("protected.stream")
    def _():
        with app.cursor() as c:
            same([r[0] for r in c.stream("SELECT ssn FROM people WHERE ssn = %s", (SSN1,))], [SSN1])

    @check("protected.client_cursor")
    def _():
        other = connect(URL, cursor_factory=psycopg.ClientCursor)
        same(run(other, "SELECT ssn FROM people WHERE ssn = %s", (SSN1,)), [(SSN1,)])
        other.close()

    @check("protected.clean")
    def _():
        run(app, "DELETE FROM people")
