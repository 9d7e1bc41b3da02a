"""The calls: `notify` with all values, `notify` with an id, `publish`.

Each in a transaction, as it should be; in an order's own it joins that one.
"""

from django.db import transaction

from benchmarks.ours.notifications import LoadedConfirmation, OrderConfirmation
from benchmarks.shop import content
from notifications.dispatch import notify
from notifications.events import publish


def notify_values(number: int) -> None:
    """Queue the confirmation of order `number` with its values."""
    with transaction.atomic(savepoint=False):
        notify(OrderConfirmation, to=content.address(number), context=content.values(number))


def notify_id(number: int) -> None:
    """Queue the confirmation of the `number`th order, counted from 0."""
    with transaction.atomic(savepoint=False):
        notify(LoadedConfirmation, to=content.address(number), context={"order_id": number + 1})


def publish_placed(number: int) -> None:
    """Publish that the `number`th order was placed; one handler is subscribed."""
    with transaction.atomic(savepoint=False):
        publish("order.placed", order_id=number + 1)
