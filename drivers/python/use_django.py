"""Django's ORM over psycopg2: migrations, queries, introspection."""
import django
from django.conf import settings

from check import *


def database(url, **options):
    user, password, host, port, name = parts(url)
    return {"ENGINE": "django.db.backends.postgresql", "USER": user, "PASSWORD": password, "HOST": host, "PORT": port, "NAME": name, "OPTIONS": {"sslmode": "disable", **options}}


databases = {"default": database(URL)}
if SUPPORT:
    databases.update(support=database(SUPPORT), analyst=database(ANALYST), backing=database(BACKING), tls={**database(URL, sslmode="verify-full", sslrootcert=CA), "HOST": "localhost"})
settings.configure(DATABASES=databases, USE_TZ=True, TIME_ZONE="UTC", INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.postgres", "djangoapp"],
                   DEFAULT_AUTO_FIELD="django.db.models.BigAutoField")
django.setup()
version("django", django.__version__)

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.models import Count, Exists, OuterRef, Q

from djangoapp.models import Person, Pet, Thing


values = dict(name="a'\\\"%s", n=-9223372036854775808, small=-32768, price=decimal.Decimal("-1234567890123.4567"), ratio=1.5, on=True, day=WHEN.date(),
              at=WHEN.replace(tzinfo=UTC), key=uuid.UUID(int=5), data={"a": [1, None]}, tags=["x,y", '"'], bytes=b"\x00\xff\\")


@check("connect")
def _():
    connection.ensure_connection()


@check("create")
def _():
    with connection.cursor() as c:
        c.execute("DROP TABLE IF EXISTS drivers_django")
    with connection.schema_editor() as e:
        e.create_model(Thing)


@check("types")
def _():
    Thing.objects.create(**values)
    t = Thing.objects.get(name=values["name"])
    got = {k: getattr(t, k) for k in values}
    got["bytes"] = bytes(got["bytes"])
    same(got, values)


@check("null")
def _():
    same(Thing.objects.create(name="null").at, None)


@check("parameter")
def _():
    with connection.cursor() as c:
        for i in range(12):
            c.execute("SELECT %s || %s::int4", ["sent-marker", i])
            same(c.fetchone()[0], f"sent-marker{i}")


@check("bulk")
def _():
    Thing.objects.bulk_create([Thing(name=f"row {i}", n=i) for i in range(300)], batch_size=100)
    things = list(Thing.objects.filter(n__lt=3, n__gte=0))
    for t in things:
        t.small = 7
    Thing.objects.bulk_update(things, ["small"])
    same(Thing.objects.filter(small=7).count(), 3)


@check("queries")
def _():
    same(Thing.objects.filter(Q(name__icontains="ROW 1") & ~Q(n__in=[1, 10])).count(), 109)
    same(Thing.objects.filter(data__a__0=1, tags__contains=["x,y"]).exists(), True)
    same(Thing.objects.update_or_create(name="row 1", defaults={"n": 77})[1], False)
    same(Thing.objects.values("small").annotate(n=Count("id")).order_by("small").first()["n"], 1)


@check("iterator")
def _():
    same(sum(1 for _ in Thing.objects.iterator(chunk_size=50)), 302)


@check("transaction")
def _():
    def lost():
        with transaction.atomic():
            Thing.objects.filter(n=5).delete()
            try:
                with transaction.atomic():
                    Thing.objects.create(name="row 1")
            except django.db.IntegrityError:
                pass
            same(Thing.objects.select_for_update().filter(n=6).count(), 1)
            raise KeyError
    same(type(fails(lost)), KeyError)
    same(Thing.objects.count(), 302)


@check("introspect")
def _():
    with connection.cursor() as c:
        i = connection.introspection
        same(len(i.get_table_description(c, "drivers_django")), 13)
        same(len(i.get_constraints(c, "drivers_django")) >= 2, True)
        i.get_relations(c, "drivers_django"), i.get_sequences(c, "drivers_django"), i.get_table_list(c)


@check("migrate")
def _():
    call_command("migrate", verbosity=0)
    User.objects.create_user("drivers", password="x")
    call_command("migrate", "auth", "zero", verbosity=0)
    call_command("migrate", "contenttypes", "zero", verbosity=0)
    with connection.cursor() as c:
        c.execute("DROP TABLE IF EXISTS django_migrations")


@check("error.position")
def _():
    with connection.cursor() as c:
        e = fails(c.execute, "SELECT 1 + no_such_column").__cause__
        same((e.pgcode, e.diag.statement_position), ("42703", "12"))


@check("drop")
def _():
    with connection.schema_editor() as e:
        e.delete_model(Thing)


if SUPPORT:
    @check("tls")
    def _():
        connections["tls"].ensure_connection()

    @check("protected.insert")
    def _():
        Person.objects.all().delete()
        p = Person.objects.create(name="One", email=EMAIL1, ssn=SSN1)
        Person.objects.bulk_create([Person(name="Two", ssn=SSN2), Person(name="Three")])
        Pet.objects.bulk_create([Pet(person=p, name="Rex"), Pet(person=p, name="Tom")])

    @check("protected.find")
    def _():
        same(Person.objects.get(ssn=SSN1).email, EMAIL1)

    @check("protected.in")
    def _():
        same(len(Person.objects.filter(ssn__in=[SSN1, SSN2]).order_by("-id")[:5]), 2)

    @check("protected.prefetch")
    def _():
        p = Person.objects.prefetch_related("pets").get(ssn=SSN1)
        same((p.ssn, len(p.pets.all())), (SSN1, 2))

    @check("protected.join")
    def _():
        same(Pet.objects.select_related("person").filter(person__ssn=SSN1).order_by("id").first().person.ssn, SSN1)

    @check("protected.exclude")
    def _():
        same(list(Person.objects.exclude(ssn=SSN1).filter(ssn__isnull=False).values_list("ssn", flat=True)), [SSN2])

    @check("protected.count")
    def _():
        same(Person.objects.filter(ssn__isnull=False).distinct().count(), 2)
        same(Person.objects.aggregate(n=Count("ssn", distinct=True))["n"], 2)

    @check("protected.annotate")
    def _():
        same(Person.objects.annotate(n=Count("pets")).get(ssn=SSN1).n, 2)

    @check("protected.exists")
    def _():
        same(Person.objects.filter(ssn=SSN1).exists(), True)
        same(Person.objects.filter(Exists(Pet.objects.filter(person=OuterRef("pk")))).get().ssn, SSN1)

    @check("protected.update")
    def _():
        p = Person.objects.get(ssn=SSN1)
        p.ssn = SSN3
        p.save()
        Person.objects.filter(ssn=SSN3).update(email=EMAIL2)
        same(Person.objects.get(email=EMAIL2).ssn, SSN3)

    @check("protected.update_or_create")
    def _():
        same(Person.objects.update_or_create(ssn=SSN3, defaults={"name": "Uno"})[0].name, "Uno")
        same(Person.objects.get_or_create(ssn="512-34-0001", defaults={"name": "Four"})[1], True)

    @check("protected.bulk_update")
    def _():
        people = list(Person.objects.filter(ssn__isnull=False))
        for p in people:
            p.email = EMAIL1
        Person.objects.bulk_update(people, ["email"])

    @check("protected.for_update")
    def _():
        with transaction.atomic():
            same(Person.objects.select_for_update().get(ssn=SSN3).name, "Uno")

    @check("protected.iterator")
    def _():
        same(sum(1 for p in Person.objects.filter(ssn__isnull=False).iterator(chunk_size=2)), 3)

    @check("protected.masked")
    def _():
        same(Person.objects.using("support").get(name="Uno").ssn, "***-**-7788")

    @check("protected.token")
    def _():
        t = Person.objects.using("analyst").get(name="Uno").ssn
        is_token(t)
        same(Person.objects.using("backing").get(name="Uno").ssn, t)

    @check("protected.invalid")
    def _():
        e = fails(lambda: Person.objects.update(ssn="219-09-99x8"))
        same((e.__cause__.pgcode, "219-09" in str(e)), ("22P02", False))

    @check("protected.introspect")
    def _():
        with connection.cursor() as c:
            same(len(connection.introspection.get_table_description(c, "people")), 7)
            connection.introspection.get_constraints(c, "people")

    @check("protected.delete")
    def _():
        Person.objects.filter(ssn=SSN3).delete()
        Person.objects.all().delete()
