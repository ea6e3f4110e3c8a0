"""What the Python programs of the driver matrix share: check runs one check and prints `ok NAME` or `not ok NAME: reason`.

The environment says what to connect to, as in ../go/check.
"""
import datetime
import decimal
import os
import re
import sys
import threading
import time
import uuid

URL, SUPPORT, ANALYST, BACKING, CA = (os.environ.get("DRIVERS_" + n) for n in ("URL", "SUPPORT_URL", "ANALYST_URL", "BACKING_URL", "CA"))
SSN1, SSN2, SSN3 = "219-09-9998", "457-55-5462", "512-34-7788"
EMAIL1, EMAIL2 = "planted.one@example.com", "planted.two@example.org"
TOKEN = re.compile(r"^[A-Z]{3}-\d\d-\d{4}$")
WHEN = datetime.datetime(2024, 2, 29, 12, 34, 56, 789012)
UTC = datetime.timezone.utc

# name of the type, value
TYPES = [
    ("int2", -32768), ("int4", 2147483647), ("int8", -9223372036854775808), ("numeric", decimal.Decimal("-1234567890123.4567")), ("float4", 1.5), ("float8", 1e-300),
    ("bool", True), ("text", "Grüße \\ ' \" 🐘 %s"), ("bytea", b"\x00\x01\xff\\"), ("date", WHEN.date()), ("timestamp", WHEN), ("timestamptz", WHEN.replace(tzinfo=UTC)),
    ("uuid", uuid.UUID("01020304-0506-0708-090a-0b0c0d0e0f10")), ("int4[]", [1, -2, None]), ("text[]", ["a,b", '"q"', ""]), ("text", None),
]


def parts(url):
    """The user, password, host, port and database of a URL."""
    return re.fullmatch(r"postgres://(.*?):(.*?)@(.*?):(\d+)/([^?]*).*", url).groups()


def tls_url():
    """The URL with the host that the certificate is for, and that verified."""
    return re.sub(r"127\.0\.0\.1", "localhost", URL).split("?")[0] + f"?sslmode=verify-full&sslrootcert={CA}"


def version(name, number):
    print("# version", name, number, flush=True)


def check(name):
    """A decorator that runs the function as a check."""
    def run(f):
        try:
            f()
            print("ok", name, flush=True)
        except Exception as e:
            print(f"not ok {name}: {type(e).__name__}: {' '.join(str(e).split())}", flush=True)
    return run


def same(got, want):
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


def fails(f, *args):
    """The error that f ends with."""
    try:
        f(*args)
    except Exception as e:
        return e
    raise AssertionError("no error")


def after(seconds, f):
    t = threading.Timer(seconds, f)
    t.daemon = True
    t.start()


def is_token(v):
    if not TOKEN.match(v or ""):
        raise AssertionError(f"{v!r} is no token")


def protected_sql(run, app, support, analyst, backing, state, mark="%s"):
    """The checks of the protected table with plain SQL: run(connection, text, parameters) gives the rows."""
    found = {}

    def ssn(conn):
        return run(conn, f"SELECT ssn FROM people WHERE id = {mark}", (found["id"],))[0][0]

    @check("protected.insert")
    def _():
        run(app, "DELETE FROM people", ())
        found["id"] = run(app, f"INSERT INTO people (name, email, ssn) VALUES ({mark}, {mark}, {mark}) RETURNING id", ("One", EMAIL1, SSN1))[0][0]

    @check("protected.read")
    def _():
        same(ssn(app), SSN1)

    @check("protected.find")
    def _():
        for _ in range(12):
            same(run(app, f"SELECT name FROM people WHERE ssn = {mark}", (SSN1,))[0][0], "One")

    @check("protected.in")
    def _():
        same(len(run(app, f"SELECT name FROM people WHERE ssn IN ({mark}, {mark})", (SSN1, SSN3))), 1)

    @check("protected.update")
    def _():
        run(app, f"UPDATE people SET ssn = {mark} WHERE ssn = {mark}", (SSN2, SSN1))
        same(ssn(app), SSN2)

    @check("protected.masked")
    def _():
        same(ssn(support), "***-**-5462")

    @check("protected.token")
    def _():
        t = ssn(analyst)
        is_token(t)
        same(ssn(backing), t)

    @check("protected.invalid")
    def _():
        e = fails(run, app, f"UPDATE people SET ssn = {mark}", ("219-09-99x8",))
        same(state(e), "22P02")
        if "219-09" in str(e).split("[SQL:")[0]:
            raise AssertionError("the error repeats the value")

    @check("protected.delete")
    def _():
        run(app, f"DELETE FROM people WHERE ssn = {mark}", (SSN2,))
