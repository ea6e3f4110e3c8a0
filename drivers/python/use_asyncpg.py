"""asyncpg: everything prepared and binary; it reads pg_type for types it does not know."""
import asyncio

import asyncpg

from check import *

version("asyncpg", asyncpg.__version__)
loop = asyncio.new_event_loop()
wait = loop.run_until_complete


def connect(url, **more):
    return wait(asyncpg.connect(url.split("?")[0], **more))


def run(conn, text, params=()):
    return wait(conn.fetch(text, *params))


conn = connect(URL, ssl=False)


@check("connect")
def _():
    same(conn.get_server_version().major >= 13, True)


for kind, value in TYPES + [("json", '{"a": [1, null]}'), ("jsonb", '{"a": "b"}')]:
    @check("types." + ("null" if value is None else kind))
    def _():
        same(run(conn, f"SELECT $1::{kind}", (value,))[0][0], value)


@check("types.composite")
def _():
    run(conn, "DROP TYPE IF EXISTS drivers_pair")
    run(conn, "CREATE TYPE drivers_pair AS (a int, b text)")
    same(tuple(run(conn, "SELECT $1::drivers_pair", ((1, "x"),))[0][0]), (1, "x"))
    wait(conn.set_type_codec("jsonb", encoder=lambda v: v, decoder=lambda v: "decoded", schema="pg_catalog"))
    same(run(conn, "SELECT '{}'::jsonb")[0][0], "decoded")
    run(conn, "DROP TYPE drivers_pair")


@check("parameter")
def _():
    for i in range(12):
        same(run(conn, "SELECT $1::text || $2::int4", ("sent-marker", i))[0][0], f"sent-marker{i}")


@check("prepared")
def _():
    s = wait(conn.prepare("SELECT $1::int4 + 1"))
    for i in range(12):
        same(wait(s.fetchval(i)), i + 1)


@check("uncached")
def _():
    other = connect(URL, ssl=False, statement_cache_size=0)
    for i in range(12):
        same(run(other, "SELECT $1::text || $2::int4", ("sent-marker", i))[0][0], f"sent-marker{i}")
    wait(other.close())


@check("batch")
def _():
    run(conn, "CREATE TEMP TABLE batched (id int, note text)")
    wait(conn.executemany("INSERT INTO batched VALUES ($1, $2)", [(i, "n") for i in range(500)]))
    same(run(conn, "SELECT count(*) FROM batched")[0][0], 500)


@check("copy")
def _():
    wait(conn.copy_records_to_table("batched", records=[(i, "x") for i in range(10000)]))
    got = []

    async def keep(data):
        got.append(data)
    wait(conn.copy_from_query("SELECT g FROM generate_series(1, 3) g", output=keep))
    same(b"".join(got), b"1\n2\n3\n")


@check("transaction")
def _():
    run(conn, "CREATE TEMP TABLE kept (id int)")

    async def go():
        async with conn.transaction():
            await conn.execute("INSERT INTO kept VALUES (1)")
            try:
                async with conn.transaction():
                    await conn.fetch("SELECT 1 / $1::int4", 0)
            except asyncpg.DivisionByZeroError:
                pass
        lost = conn.transaction(isolation="serializable")
        await lost.start()
        await conn.execute("DELETE FROM kept")
        await lost.rollback()
    wait(go())
    same(run(conn, "SELECT count(*) FROM kept")[0][0], 1)


@check("cursor")
def _():
    async def go():
        async with conn.transaction():
            return [r[0] async for r in conn.cursor("SELECT g FROM generate_series(1, $1::int4) g", 250, prefetch=100)]
    same(len(wait(go())), 250)


@check("cancel")
def _():
    e = fails(lambda: wait(conn.fetch("SELECT pg_sleep(20)", timeout=0.3)))
    same(type(e).__name__, "TimeoutError")
    same(run(conn, "SELECT 1")[0][0], 1)


@check("listen")
def _():
    got = loop.create_future()
    wait(conn.add_listener("drivers_asyncpg", lambda c, pid, channel, payload: got.set_result(payload)))
    other = connect(URL, ssl=False)
    run(other, "SELECT pg_notify('drivers_asyncpg', $1)", ("told",))
    wait(other.close())
    same(wait(asyncio.wait_for(got, 5)), "told")


@check("error.position")
def _():
    e = fails(run, conn, "SELECT 1 + no_such_column")
    same((e.sqlstate, e.position), ("42703", "12"))


@check("error.detail")
def _():
    run(conn, "CREATE TEMP TABLE uniques (id int PRIMARY KEY)")
    e = fails(run, conn, "INSERT INTO uniques VALUES ($1), (1)", (1,))
    same((e.sqlstate, e.constraint_name, e.detail), ("23505", "uniques_pkey", "Key (id)=(1) already exists."))


@check("pool")
def _():
    async def go():
        async with asyncpg.create_pool(URL.split("?")[0], ssl=False, min_size=2, max_size=4) as pool:
            return await asyncio.gather(*(pool.fetchval("SELECT $1::int4", i) for i in range(40)))
    same(wait(go()), list(range(40)))


@check("large")
def _():
    same(len(run(conn, "SELECT $1::text", ("x" * (8 << 20),))[0][0]), 8 << 20)


if SUPPORT:
    @check("tls")
    def _():
        import ssl
        wait(connect(tls_url(), ssl=ssl.create_default_context(cafile=CA)).close())

    app, support, analyst, backing = (connect(u, ssl=False) for u in (URL, SUPPORT, ANALYST, BACKING))

    def numbered(conn, text, params=()):
        for i in range(len(params)):
            text = text.replace("%s", f"${i + 1}", 1)
        return run(conn, text, params)
    protected_sql(numbered, app, support, analyst, backing, lambda e: e.sqlstate)

    @check("protected.executemany")
    def _():
        wait(app.executemany("INSERT INTO people (name, ssn) VALUES ($1, $2)", [(f"n{i}", f"512-34-{1000 + i}") for i in range(50)]))
        same(run(app, "SELECT count(ssn) FROM people")[0][0], 50)

    @check("protected.any")
    def _():
        same(len(run(app, "SELECT name FROM people WHERE ssn = ANY($1::text[])", (["512-34-1000", SSN2],))), 1)

    @check("protected.cursor")
    def _():
        async def go():
            async with app.transaction():
                return [r[0] async for r in app.cursor("SELECT ssn FROM people WHERE ssn = $1", "512-34-1000")]
        same(wait(go()), ["512-34-1000"])

    @check("protected.copy")
    def _():
        same(fails(lambda: wait(app.copy_records_to_table("people", columns=["name", "ssn"], records=[("x", SSN1)]))).sqlstate, "0A000")

    @check("protected.clean")
    def _():
        run(app, "DELETE FROM people")
