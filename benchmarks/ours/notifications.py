"""The kinds: one that has its values in the row, one that loads them for a whole claim."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.shop.models import Order
from notifications.dispatch import notify
from notifications.events import on
from notifications.kinds import Kind
from notifications.models import Notification


class OrderConfirmation(Kind):
    """Values given."""

    name = "order_confirmation"


class LoadedConfirmation(Kind):
    """The row holds the order's id."""

    name = "loaded_confirmation"

    @classmethod
    def prepare(cls, batch: Sequence[Notification]) -> Iterable[Mapping[str, Any]]:
        """Load the orders and their items with two queries for all rows."""
        ids = [row.context["order_id"] for row in batch]
        orders = Order.objects.prefetch_related("items").in_bulk(ids)
        for order in map(orders.__getitem__, ids):
            yield {
                "number": order.number,
                "name": order.name,
                "items": [
                    {"name": item.name, "price": item.price, "quantity": item.quantity}
                    for item in order.items.all()
                ],
                "total": order.total,
            }


@on("order.placed")
def confirm(order_id: int) -> None:
    """Tell the customer."""
    order = Order.objects.get(pk=order_id)
    notify(LoadedConfirmation, to=order.email, context={"order_id": order_id})
