"""An order with its items: what a confirmation is about."""

from django.db import models


class Order(models.Model):
    """One order of one customer."""

    number = models.CharField(max_length=20)
    name = models.CharField(max_length=80)
    email = models.EmailField()
    total = models.DecimalField(max_digits=9, decimal_places=2)
    placed_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.number


class Item(models.Model):
    """One line of an order."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="items")
    name = models.CharField(max_length=80)
    price = models.DecimalField(max_digits=9, decimal_places=2)
    quantity = models.PositiveSmallIntegerField()

    def __str__(self) -> str:
        return self.name
