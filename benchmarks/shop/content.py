"""What each mail says: the same words, from the same values, in every system."""

from decimal import Decimal
from typing import Any

from benchmarks.shop.models import Item, Order

SUBJECT, TEXT, HTML = (
    f"notifications/order_confirmation/email.{part}" for part in ("subject.txt", "txt", "html")
)

_ITEMS = (("Green tea, 100 g", "7.90", 2), ("Cast-iron kettle", "49.00", 1))
_TOTAL = "64.80"


def address(number: int) -> str:
    """The recipient of the confirmation of order `number`."""
    return f"customer{number}@example.com"


def values(number: int) -> dict[str, Any]:
    """The values of the confirmation of order `number`, fit for JSON."""
    return {
        "number": f"A-{number:06}",
        "name": f"Customer {number}",
        "items": [
            {"name": name, "price": price, "quantity": quantity} for name, price, quantity in _ITEMS
        ],
        "total": _TOTAL,
    }


def save_order(number: int) -> Order:
    """Write order `number` and its two items, with two statements."""
    order = Order.objects.create(**_order_fields(number))
    Item.objects.bulk_create(_items(order))
    return order


def save_orders(count: int) -> list[int]:
    """Write `count` orders in bulk; their ids, in order."""
    orders = Order.objects.bulk_create(Order(**_order_fields(number)) for number in range(count))
    Item.objects.bulk_create([item for order in orders for item in _items(order)])
    return [order.pk for order in orders]


def _order_fields(number: int) -> dict[str, Any]:
    said = values(number)
    return {
        "number": said["number"],
        "name": said["name"],
        "email": address(number),
        "total": Decimal(_TOTAL),
    }


def _items(order: Order) -> list[Item]:
    return [
        Item(order=order, name=name, price=Decimal(price), quantity=quantity)
        for name, price, quantity in _ITEMS
    ]
