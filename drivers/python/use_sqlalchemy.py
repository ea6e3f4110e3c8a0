"""SQLAlchemy over psycopg2: core, ORM, reflection."""
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql as pg

from check import *

version("sqlalchemy", sa.__version__)
Base = orm.declarative_base()


class Thing(Base):
    __tablename__ = "drivers_sqlalchemy"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(40), unique=True)
    n = sa.Column(sa.BigInteger)
    small = sa.Column(sa.SmallInteger)
    price = sa.Column(sa.Numeric(17, 4))
    ratio = sa.Column(sa.Float)
    on = sa.Column(sa.Boolean)
    day = sa.Column(sa.Date)
    at = sa.Column(sa.DateTime)
    atz = sa.Column(sa.DateTime(timezone=True))
    key = sa.Column(pg.UUID(as_uuid=True))
    data = sa.Column(pg.JSONB)
    tags = sa.Column(pg.ARRAY(sa.Text))
    bytes = sa.Column(sa.LargeBinary)


class Person(Base):
    __tablename__ = "people"
    id = sa.Column(sa.BigInteger, primary_key=True)
    name = sa.Column(sa.Text, nullable=False)
    email = sa.Column(sa.Text)
    ssn = sa.Column(sa.Text, unique=True)
    created_at = sa.Column(sa.DateTime(timezone=True), server_default=sa.func.now())
    pets = orm.relationship("Pet", back_populates="person", cascade="all, delete-orphan")


class Pet(Base):
    __tablename__ = "pets"
    id = sa.Column(sa.BigInteger, primary_key=True)
    person_id = sa.Column(sa.BigInteger, sa.ForeignKey("people.id"))
    name = sa.Column(sa.Text)
    person = orm.relationship("Person", back_populates="pets")


def engine(url):
    return sa.create_engine(url.replace("postgres://", "postgresql+psycopg2://"), future=True)


db = engine(URL)
values = dict(name="a'\\\"%s", n=-9223372036854775808, small=-32768, price=decimal.Decimal("-1234567890123.4567"), ratio=1.5, on=True, day=WHEN.date(), at=WHEN,
              atz=WHEN.replace(tzinfo=UTC), key=uuid.UUID(int=5), data={"a": [1, None]}, tags=["x,y", '"'], bytes=b"\x00\xff\\")


@check("connect")
def _():
    db.connect().close()


@check("create")
def _():
    Base.metadata.drop_all(db, tables=[Thing.__table__])
    Base.metadata.create_all(db, tables=[Thing.__table__])


@check("types")
def _():
    with orm.Session(db) as s:
        s.add(Thing(**values))
        s.commit()
        t = s.execute(sa.select(Thing).where(Thing.name == values["name"])).scalar_one()
        same({k: getattr(t, k) for k in values}, values)


@check("null")
def _():
    with orm.Session(db) as s:
        s.add(Thing(name="null"))
        s.commit()
        same(s.query(Thing).filter(Thing.atz.is_(None)).one().data, None)


@check("parameter")
def _():
    with db.connect() as c:
        for i in range(12):
            same(c.execute(sa.text("SELECT :v || CAST(:i AS int4)"), {"v": "sent-marker", "i": i}).scalar(), f"sent-marker{i}")


@check("batch")
def _():
    with db.begin() as c:
        c.execute(sa.insert(Thing), [{"name": f"row {i}", "n": i} for i in range(300)])
        same(c.execute(sa.select(sa.func.count()).select_from(Thing)).scalar(), 302)


@check("upsert")
def _():
    with db.begin() as c:
        q = pg.insert(Thing).values(name="row 1", n=77)
        c.execute(q.on_conflict_do_update(index_elements=["name"], set_={"n": q.excluded.n}))


@check("reflect")
def _():
    i = sa.inspect(db)
    same(len(i.get_columns("drivers_sqlalchemy")), 14)
    same(i.get_unique_constraints("drivers_sqlalchemy")[0]["column_names"], ["name"])
    same(sa.Table("drivers_sqlalchemy", sa.MetaData(), autoload_with=db).c.price.type.scale, 4)
    i.get_view_names(), i.get_foreign_keys("drivers_sqlalchemy"), i.get_check_constraints("drivers_sqlalchemy"), i.get_indexes("drivers_sqlalchemy"), i.get_table_comment("drivers_sqlalchemy")


@check("transaction")
def _():
    with orm.Session(db) as s:
        s.query(Thing).filter(Thing.n == 5).delete()
        nested = s.begin_nested()
        e = fails(s.execute, sa.text("SELECT 1 / :n"), {"n": 0})
        same(e.orig.pgcode, "22012")
        nested.rollback()
        s.rollback()
        same(s.query(Thing).count(), 302)


@check("stream")
def _():
    with db.connect() as c:
        same(sum(1 for _ in c.execution_options(stream_results=True, max_row_buffer=50).execute(sa.select(Thing.id))), 302)


@check("error.position")
def _():
    with db.connect() as c:
        e = fails(c.execute, sa.text("SELECT 1 + no_such_column"))
        same((e.orig.pgcode, e.orig.diag.statement_position), ("42703", "12"))


@check("drop")
def _():
    Base.metadata.drop_all(db, tables=[Thing.__table__])


db.dispose()
if SUPPORT:
    @check("tls")
    def _():
        engine(tls_url()).connect().close()

    app, support, analyst, backing = (orm.Session(engine(u)) for u in (URL, SUPPORT, ANALYST, BACKING))

    def again(s):
        s.rollback()
        s.expire_all()
        return s

    @check("protected.insert")
    def _():
        app.execute(sa.delete(Person))
        app.add(Person(id=None, name="One", email=EMAIL1, ssn=SSN1, pets=[Pet(name="Rex"), Pet(name="Tom")]))
        app.add_all([Person(name="Two", ssn=SSN2), Person(name="Three")])
        app.commit()

    @check("protected.find")
    def _():
        same(again(app).query(Person).filter_by(ssn=SSN1).one().email, EMAIL1)

    @check("protected.in")
    def _():
        same(len(again(app).execute(sa.select(Person).where(Person.ssn.in_([SSN1, SSN2])).order_by(Person.id).limit(5)).all()), 2)

    for name, option in ("joined", orm.joinedload), ("selectin", orm.selectinload), ("subquery", orm.subqueryload):
        @check("protected.load." + name)
        def _():
            p = again(app).execute(sa.select(Person).options(option(Person.pets)).where(Person.ssn == SSN1)).unique().scalar_one()
            same((p.ssn, len(p.pets)), (SSN1, 2))

    @check("protected.load.joined_limit")
    def _():
        p = again(app).query(Person).options(orm.joinedload(Person.pets)).filter(Person.ssn == SSN1).limit(1).one()
        same((p.ssn, len(p.pets)), (SSN1, 2))

    @check("protected.join")
    def _():
        same(again(app).execute(sa.select(Pet.name, Person.ssn).join(Pet.person).where(Person.ssn == SSN1).order_by(Pet.id)).first(), ("Rex", SSN1))

    @check("protected.count")
    def _():
        same(again(app).query(Person).filter(Person.ssn.isnot(None)).count(), 2)
        same(app.execute(sa.select(sa.func.count(sa.distinct(Person.ssn)))).scalar(), 2)

    @check("protected.exists")
    def _():
        same(again(app).query(app.query(Person).filter(Person.ssn == SSN1).exists()).scalar(), True)

    @check("protected.update")
    def _():
        p = again(app).query(Person).filter_by(ssn=SSN1).one()
        p.ssn = SSN3
        app.commit()
        app.execute(sa.update(Person).where(Person.ssn == SSN3).values(email=EMAIL2).execution_options(synchronize_session=False))
        app.commit()
        same(app.query(Person).filter_by(email=EMAIL2).one().ssn, SSN3)

    @check("protected.bulk")
    def _():
        again(app).execute(sa.insert(Person.__table__), [{"name": f"n{i}", "ssn": f"512-34-{1000 + i}"} for i in range(30)])
        app.commit()

    @check("protected.upsert")
    def _():
        q = pg.insert(Person).values(name="One", ssn=SSN3)
        again(app).execute(q.on_conflict_do_update(index_elements=["ssn"], set_={"name": "Uno"}))
        app.commit()

    @check("protected.upsert_excluded")
    def _():
        q = pg.insert(Person).values(name="One", ssn=SSN3)
        again(app).execute(q.on_conflict_do_update(index_elements=["ssn"], set_={"ssn": q.excluded.ssn, "name": q.excluded.name}))
        app.commit()

    @check("protected.stream")
    def _():
        same(len(again(app).execute(sa.select(Person.ssn).where(Person.ssn.isnot(None)), execution_options={"stream_results": True}).all()), 32)

    def ssn(s):
        return again(s).query(Person.ssn).filter(Person.name.in_(["One", "Uno"])).scalar()

    @check("protected.masked")
    def _():
        same(ssn(support), "***-**-7788")

    @check("protected.token")
    def _():
        is_token(ssn(analyst))
        same(ssn(backing), ssn(analyst))

    @check("protected.invalid")
    def _():
        e = fails(again(app).execute, sa.update(Person).values(ssn="219-09-99x8").execution_options(synchronize_session=False))
        same(e.orig.pgcode, "22P02")
        same("219-09" in str(e.orig), False)

    @check("protected.reflect")
    def _():
        again(app)
        i = sa.inspect(app.get_bind())
        same(len(i.get_columns("people")), 7)
        i.get_check_constraints("people"), i.get_indexes("people"), i.get_foreign_keys("pets")

    @check("protected.delete")
    def _():
        for p in again(app).query(Person):
            app.delete(p)
        app.commit()
    for s in app, support, analyst, backing:
        s.close()
