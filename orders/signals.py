"""Saved orders and users become events.

It makes no difference who saves: a shell, the admin, the storefront. A save that changes nothing
publishes nothing, and neither does `loaddata`. The event is written in the transaction of the
save, so a rollback takes it back.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db.models.signals import post_save, pre_save
from django.dispatch import receiver

from notifications.events import publish
from orders.models import Order, User


@receiver(pre_save, sender=Order)
def remember_status(
    sender: type[Order],
    instance: Order,
    raw: bool,
    using: str,
    update_fields: Collection[str] | None,
    **kwargs: Any,
) -> None:
    """Keep the status that the database holds, to compare with it after the save.

    The database is asked, not the object: that may be stale, or left over from a transaction
    that was rolled back. The row stays locked until the commit, so of two people who ship the
    same order at the same moment only one ships it.
    """
    instance.status_before = None
    writes_status = update_fields is None or "status" in update_fields
    if raw or instance.pk is None or not writes_status:
        return
    known = Order.objects.using(using).select_for_update().filter(pk=instance.pk)
    instance.status_before = known.values_list("status", flat=True).first()


@receiver(post_save, sender=Order)
def publish_order(
    sender: type[Order], instance: Order, created: bool, raw: bool, **kwargs: Any
) -> None:
    """Publish a new order, or its change of status."""
    if raw:
        return
    if created:
        publish("order.placed", order_id=instance.pk)
        return
    before, status = instance.status_before, str(instance.status)
    if before is None or before == status:
        return
    publish("order.status_changed", order_id=instance.pk, before=before, status=status)
    if status == Order.Status.PAID:
        publish("payment.received", order_id=instance.pk)
    elif status == Order.Status.REFUNDED:
        publish("order.refunded", order_id=instance.pk)


@receiver(post_save, sender=User)
def publish_user(
    sender: type[User], instance: User, created: bool, raw: bool, **kwargs: Any
) -> None:
    """Publish a new user."""
    if created and not raw:
        publish("user.registered", user_id=instance.pk)
