"""How an order goes on after it was placed. Each move looks at the order as it is now, under a
lock, and is made only where it makes sense: two people who press the same button move it once.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db import transaction

from orders.models import Order

Status = Order.Status


def pay_order(order: Order) -> bool:
    """Note that an order was paid; False if it was not waiting for that."""
    return _move(order, of=[Status.PLACED], to=Status.PAID)


def ship_order(order: Order) -> bool:
    """Note that an order was given to the carrier; False if it was not waiting for that."""
    waits = [Status.PLACED, Status.PAID] if order.paid_in_cash else [Status.PAID]
    return _move(order, of=waits, to=Status.SHIPPED)


def cancel_order(order: Order) -> bool:
    """Cancel an order that nobody has paid or sent; False for any other."""
    return _move(order, of=[Status.PLACED], to=Status.CANCELLED)


def _move(order: Order, *, of: Collection[str], to: str) -> bool:
    with transaction.atomic():
        known = Order.objects.select_for_update().get(pk=order.pk)
        if known.status not in of:
            return False
        known.status = to
        known.save(update_fields=["status"])
    return True
