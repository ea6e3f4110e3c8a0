"""ODBC: psqlODBC under unixODBC, by pyodbc."""
import pyodbc

from check import *

DRIVER = "PostgreSQL Unicode"


def text(url, **more):
    user, password, host, port, name = parts(url)
    options = {"Driver": "{%s}" % DRIVER, "Server": host, "Port": port, "Database": name, "Uid": user, "Pwd": password, "SSLmode": "disable", **more}
    return ";".join(f"{k}={v}" for k, v in options.items())


def connect(url, **more):
    conn = pyodbc.connect(text(url, **more), autocommit=True)
    conn.setencoding("utf-8")
    conn.setdecoding(pyodbc.SQL_CHAR, "utf-8")
    return conn


def run(conn, text, params=()):
    c = conn.cursor()
    c.execute(text, *params)
    return [tuple(r) for r in c.fetchall()] if c.description else []


conn = connect(URL)
version("psqlodbc", conn.getinfo(pyodbc.SQL_DRIVER_VER))


@check("connect")
def _():
    same(run(conn, "SELECT 1"), [(1,)])


for kind, value in TYPES:
    if isinstance(value, list) or kind in ("uuid", "timestamptz"):
        continue

    @check("types." + ("null" if value is None else kind))
    def _():
        got = run(conn, f"SELECT CAST(? AS {kind})", (value,))[0][0]
        same(bool(int(got)) if kind == "bool" else got, value)


for kind, value in (("uuid", "01020304-0506-0708-090a-0b0c0d0e0f10"), ("json", '{"a": [1, null]}'), ("int4[]", "{1,-2,NULL}"), ("timestamptz", "2024-02-29 12:34:56.789012+00")):
    @check("types." + kind)
    def _():
        same(run(conn, f"SELECT CAST(CAST(CAST(? AS varchar) AS {kind}) AS varchar) = CAST(CAST(? AS {kind}) AS varchar)", (value, value))[0][0] in (True, "1"), True)


@check("parameter")
def _():
    for i in range(12):
        same(run(conn, "SELECT CAST(? AS text) || CAST(? AS int4)", ("sent-marker", i))[0][0], f"sent-marker{i}")


@check("parameter.simple")
def _():
    other = connect(URL, UseServerSidePrepare=0)
    for i in range(12):
        same(run(other, "SELECT CAST(? AS text) || CAST(? AS int4)", ("sent-marker", i))[0][0], f"sent-marker{i}")
    other.close()


@check("batch")
def _():
    run(conn, "CREATE TEMP TABLE batched (id int, note varchar(20))")
    c = conn.cursor()
    c.fast_executemany = True
    c.executemany("INSERT INTO batched VALUES (?, ?)", [(i, "n") for i in range(300)])
    same(run(conn, "SELECT count(*) FROM batched")[0][0], 300)


@check("transaction")
def _():
    other = connect(URL)
    run(other, "CREATE TEMP TABLE kept (id int)")
    other.autocommit = False
    run(other, "INSERT INTO kept VALUES (?)", (1,))
    run(other, "SAVEPOINT s")
    same(fails(run, other, "SELECT 1 / CAST(? AS int)", (0,)).args[0], "22012")
    run(other, "ROLLBACK TO s")
    other.commit()
    run(other, "DELETE FROM kept")
    other.rollback()
    same(run(other, "SELECT count(*) FROM kept")[0][0], 1)
    other.close()


@check("transaction.error_goes_on")
def _():
    other = connect(URL, Protocol="7.4-2")  # a savepoint per statement
    other.autocommit = False
    fails(run, other, "SELECT 1 / CAST(? AS int)", (0,))
    same(run(other, "SELECT 5")[0][0], 5)
    other.close()


@check("cursor")
def _():
    other = connect(URL, UseDeclareFetch=1, Fetch=100)
    same(len(run(other, "SELECT g FROM generate_series(1, 250) g")), 250)
    other.close()


@check("cancel")
def _():
    c = conn.cursor()
    after(0.3, c.cancel)
    same(fails(c.execute, "SELECT pg_sleep(20)").args[0] in ("57014", "HY008"), True)


@check("catalog")
def _():
    run(conn, "DROP TABLE IF EXISTS drivers_odbc")
    run(conn, "CREATE TABLE drivers_odbc (id int PRIMARY KEY, note varchar(20))")
    c = conn.cursor()
    same(len(c.tables(table="drivers_odbc").fetchall()), 1)
    same([r.column_name for r in c.columns(table="drivers_odbc")], ["id", "note"])
    same(c.primaryKeys("drivers_odbc").fetchone().column_name, "id")
    c.statistics("drivers_odbc").fetchall(), c.foreignKeys("drivers_odbc").fetchall(), c.getTypeInfo().fetchall(), c.procedures().fetchall()
    run(conn, "DROP TABLE drivers_odbc")


@check("error.state")
def _():
    same(fails(run, conn, "SELECT 1 + no_such_column").args[0], "42703")


@check("large")
def _():
    same(len(run(connect(URL, MaxLongVarcharSize=20 << 20), "SELECT CAST(? AS text)", ("x" * (4 << 20),))[0][0]), 4 << 20)


if SUPPORT:
    @check("tls")
    def _():
        connect(URL.replace("127.0.0.1", "localhost"), SSLmode="verify-full", pqopt="{sslrootcert=%s}" % CA).close()

    app, support, analyst, backing = (connect(u) for u in (URL, SUPPORT, ANALYST, BACKING))
    protected_sql(run, app, support, analyst, backing, lambda e: e.args[0], mark="?")

    @check("protected.simple")
    def _():
        other = connect(URL, UseServerSidePrepare=0)
        same(run(other, "INSERT INTO people (name, ssn) VALUES (?, ?) RETURNING ssn", ("One", SSN1)), [(SSN1,)])
        same(run(other, "SELECT ssn FROM people WHERE ssn = ?", (SSN1,)), [(SSN1,)])
        other.close()

    @check("protected.batch")
    def _():
        c = app.cursor()
        c.executemany("INSERT INTO people (name, ssn) VALUES (?, ?)", [(f"n{i}", f"512-34-{1000 + i}") for i in range(20)])
        same(run(app, "SELECT count(ssn) FROM people")[0][0], 21)

    @check("protected.savepoints")
    def _():
        other = connect(URL, Protocol="7.4-2")
        other.autocommit = False
        same(fails(run, other, "UPDATE people SET ssn = ?", ("219-09-99x8",)).args[0], "22P02")
        same(run(other, "SELECT ssn FROM people WHERE ssn = ?", (SSN1,)), [(SSN1,)])
        other.close()

    @check("protected.declare_fetch")
    def _():
        other = connect(URL, UseDeclareFetch=1, Fetch=100)
        same(run(other, "SELECT ssn FROM people WHERE ssn = ?", (SSN1,)), [(SSN1,)])
        other.close()

    @check("protected.catalog")
    def _():
        c = app.cursor()
        same(len(c.columns(table="people").fetchall()), 7)
        c.primaryKeys("people").fetchall(), c.statistics("people").fetchall(), c.foreignKeys("pets").fetchall()

    @check("protected.clean")
    def _():
        run(app, "DELETE FROM people")
