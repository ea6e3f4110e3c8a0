from django.contrib.postgres.fields import ArrayField
from django.db import models


class Thing(models.Model):
    name = models.CharField(max_length=40, unique=True)
    n = models.BigIntegerField(null=True)
    small = models.SmallIntegerField(null=True)
    price = models.DecimalField(max_digits=17, decimal_places=4, null=True)
    ratio = models.FloatField(null=True)
    on = models.BooleanField(null=True)
    day = models.DateField(null=True)
    at = models.DateTimeField(null=True)
    key = models.UUIDField(null=True)
    data = models.JSONField(null=True)
    tags = ArrayField(models.TextField(), null=True)
    bytes = models.BinaryField(null=True)

    class Meta:
        db_table = "drivers_django"


class Person(models.Model):
    name = models.TextField()
    email = models.TextField(null=True)
    ssn = models.TextField(null=True, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "people"
        managed = False


class Pet(models.Model):
    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="pets")
    name = models.TextField()

    class Meta:
        db_table = "pets"
        managed = False
