"""Saved orders and users become events, whoever saves them."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import serializers
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.urls import reverse
from redis import Redis

from notifications import rings
from notifications.models import Notification, Task
from notifications.muting import muted
from orders.models import Order, User
from tests.orders.shop import make_customer, make_order, make_product, run_handlers
from tests.workers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def topics() -> list[str]:
    return list(Task.objects.order_by("pk").values_list("topic", flat=True))


def test_a_new_order_is_an_event_and_one_message_on_each_channel() -> None:
    order = Order.objects.create(customer=make_customer())
    assert topics() == ["order.placed"]
    assert Task.objects.get().payload == {"order_id": order.pk}
    assert run_handlers() == ["order_confirmation"]
    mail, in_app = Notification.objects.order_by("pk")
    assert (mail.to, in_app.to) == ("ada@example.com", str(order.customer.pk))
    for row in (mail, in_app):
        assert (row.about_type, row.about_id) == ("orders.order", str(order.pk))


def test_after_the_commit_its_queue_holds_a_job(redis: Redis) -> None:
    Order.objects.create(customer=make_customer())
    wait_until(lambda: redis.llen("rq:queue:default") == 1)


@pytest.mark.parametrize(
    ("status", "expected", "kinds"),
    [
        ("paid", ["order.status_changed", "payment.received"], ["payment_receipt"]),
        ("shipped", ["order.status_changed"], ["order_status_update"]),
        ("out_for_delivery", ["order.status_changed"], ["order_status_update"]),
        ("delivered", ["order.status_changed"], ["order_status_update"]),
        ("cancelled", ["order.status_changed"], ["order_status_update"]),
        ("refunded", ["order.status_changed", "order.refunded"], ["refund_confirmation"]),
    ],
)
def test_each_change_of_status_is_one_mail(
    status: str, expected: list[str], kinds: list[str]
) -> None:
    order = make_order()
    order.status = status
    order.save()
    assert topics() == expected
    assert Task.objects.earliest("pk").payload == {
        "order_id": order.pk,
        "before": "placed",
        "status": status,
    }
    assert run_handlers() == kinds


def test_a_save_that_changes_nothing_tells_nobody() -> None:
    order = make_order()
    order.save()
    Order.objects.get(pk=order.pk).save()
    order.address = "somewhere else"
    order.save()
    user = User.objects.get(pk=order.customer_id)
    user.phone = "+491701234567"
    user.save()
    assert topics() == []


def test_a_status_that_is_not_written_is_no_change() -> None:
    order = make_order()
    order.status = Order.Status.SHIPPED
    order.save(update_fields=["address"])
    assert topics() == []
    order.save(update_fields=["status"])
    assert topics() == ["order.status_changed"]


def test_two_stale_objects_ship_an_order_once() -> None:
    order = make_order()
    one, other = Order.objects.get(pk=order.pk), Order.objects.get(pk=order.pk)
    for each in (one, other):
        each.status = Order.Status.SHIPPED
        each.save()
    assert topics() == ["order.status_changed"]


def test_an_order_loaded_without_its_status_can_change_it() -> None:
    order = Order.objects.only("pk").get(pk=make_order().pk)
    order.status = Order.Status.SHIPPED
    order.save()
    assert topics() == ["order.status_changed"]


def test_a_rollback_takes_the_event_back(redis: Redis) -> None:
    order = make_order()
    with transaction.atomic():
        order.status = Order.Status.SHIPPED
        order.save()
        User.objects.create_user("eve", "eve@example.com")
        transaction.set_rollback(True)
    assert topics() == []
    rings.flush()
    assert not redis.exists("rq:queue:default")


def test_after_a_rollback_the_same_object_can_be_saved_again() -> None:
    order = make_order()
    with transaction.atomic():
        order.status = Order.Status.SHIPPED
        order.save()
        transaction.set_rollback(True)
    order.save()
    assert topics() == ["order.status_changed"]


def test_a_crash_between_the_row_and_its_event_keeps_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    customer = make_customer()

    def crash(*args: Any, **kwargs: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("orders.signals.publish", crash)
    with pytest.raises(MemoryError):
        Order.objects.create(customer=customer)
    assert not Order.objects.exists()


def test_loaded_fixtures_tell_nobody(tmp_path: Any) -> None:
    order = make_order()
    everything = [order.customer, *order.items.all(), order]
    order.status = Order.Status.REFUNDED
    path = tmp_path / "shop.json"
    path.write_text(serializers.serialize("json", everything))
    call_command("loaddata", str(path), verbosity=0)  # changes the status
    order.items.all().delete()
    Order.objects.all().delete()
    User.objects.all().delete()
    call_command("loaddata", str(path), verbosity=0)  # adds all of it
    assert Order.objects.get().status == Order.Status.REFUNDED
    assert topics() == []


def test_updates_and_bulk_writes_tell_nobody() -> None:
    order = make_order()
    Order.objects.update(status=Order.Status.SHIPPED)
    order.status = Order.Status.DELIVERED
    Order.objects.bulk_update([order], ["status"])
    Order.objects.bulk_create([Order(customer=order.customer)])
    assert topics() == []


def test_muted_saves_tell_nobody() -> None:
    with muted():
        Order.objects.create(customer=make_customer())
    assert topics() == []


def test_a_new_user_is_welcomed() -> None:
    user = User.objects.create_user("eve", "eve@example.com", language="de")
    assert topics() == ["user.registered"]
    assert run_handlers() == ["welcome"]
    row = Notification.objects.get()
    assert (row.user_id, row.to, row.language) == (user.pk, "eve@example.com", "de")


def test_a_user_without_an_address_is_not_written_to() -> None:
    customer = make_customer("carl", email="")
    User.objects.create_user("daemon")
    Order.objects.create(customer=customer)
    assert topics() == ["user.registered", "order.placed"]
    assert run_handlers() == []
    told = Notification.objects.get()  # but finds it in the shop
    assert (told.channel, told.user) == ("in_app", customer)


def test_what_was_deleted_meanwhile_is_not_told() -> None:
    order = Order.objects.create(customer=make_customer())
    eve = User.objects.create_user("eve", "eve@example.com")
    order.delete()
    eve.delete()
    assert run_handlers() == []
    assert set(Task.objects.values_list("state", flat=True)) == {"done"}


@pytest.mark.parametrize("door", ["admin", "shell", "storefront"])
def test_it_makes_no_difference_who_saves(door: str) -> None:
    order = make_order()
    client = Client()
    if door == "shell":
        order.status = Order.Status.CANCELLED
        order.save()
    elif door == "storefront":
        client.force_login(order.customer)
        client.post(reverse("cancel", args=[order.number]))
    else:
        with muted():
            boss = User.objects.create_superuser("boss")
        client.force_login(boss)
        page = client.get(reverse("admin:orders_order_change", args=[order.pk]))
        fields = {
            name: "" if value is None else value
            for name, value in page.context["adminform"].form.initial.items()
        }
        forms = {
            f"items-{name}": value for name, value in {"TOTAL_FORMS": 0, "INITIAL_FORMS": 0}.items()
        }
        answer = client.post(
            reverse("admin:orders_order_change", args=[order.pk]),
            {**fields, **forms, "status": "cancelled"},
        )
        assert answer.status_code == 302, answer.context["errors"]
    assert topics() == ["order.status_changed"]
    assert run_handlers() == ["order_status_update"]


def test_an_order_made_in_the_admin_is_confirmed_with_its_items() -> None:
    customer, product = make_customer(), make_product()
    with muted():
        boss = User.objects.create_superuser("boss")
    client = Client()
    client.force_login(boss)
    answer = client.post(
        reverse("admin:orders_order_add"),
        {
            "customer": customer.pk,
            "status": "placed",
            "payment": "prepaid",
            "currency": "EUR",
            "shipping": "0",
            "address": "",
            "tracking_code": "",
            "items-TOTAL_FORMS": 1,
            "items-INITIAL_FORMS": 0,
            "items-0-product": product.pk,
            "items-0-quantity": 3,
        },
    )
    assert answer.status_code == 302, answer.context["errors"]
    assert Order.objects.get().total == 3 * product.price
    assert run_handlers() == ["order_confirmation"]
