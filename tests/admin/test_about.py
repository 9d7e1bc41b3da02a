"""What rows are about, and how people find them."""

from __future__ import annotations

import pytest

from notifications.models import DeadLetter, Notification, State, Task
from tests.admin.screens import BOB, ask, boss, letter, list_of, staff, text_of
from tests.orders.shop import make_customer, make_order
from tests.scripted import Script

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_list_names_the_order_and_links_to_it() -> None:
    order = make_order()
    ask(about=order)
    content = text_of(boss(), list_of("notification"))
    assert f'<a href="/admin/orders/order/{order.pk}/change/">order {order.number}</a>' in content


def test_who_may_not_see_orders_learns_no_number() -> None:
    order = make_order()
    ask(about=order)
    client = staff("view_notification")
    assert order.number not in text_of(client, list_of("notification"))
    assert f"order {order.pk}" in text_of(client, list_of("notification"))
    assert BOB not in text_of(client, list_of("notification"), q=order.number)
    assert "0 notifications" in text_of(client, list_of("notification"), q=order.number)


@pytest.mark.parametrize(
    ("label", "key"), [("orders.order", "999"), ("orders.order", "x"), ("gone.model", "1")]
)
def test_what_is_no_more_is_named_by_its_id(label: str, key: str) -> None:
    ask()
    Notification.objects.update(about_type=label, about_id=key)
    assert f"{label.rpartition('.')[2]} {key}" in text_of(boss(), list_of("notification"))


def test_a_message_is_found_by_the_orders_number() -> None:
    order, customer = make_order(), make_customer("eve")
    ask(about=order)
    ask("eve@example.com", about=make_order(customer))
    client = staff("view_notification", "view_content", "orders.view_order", "view_deadletter")
    for term in (order.number, order.number.lower()):
        content = text_of(client, list_of("notification"), q=term)
        assert BOB in content
        assert "eve@example.com" not in content
    # The order's key may be another message's number, and part of another order's.
    assert BOB in text_of(client, list_of("notification"), q=str(order.pk))


@pytest.mark.parametrize(
    "found_by", ["7-A", "<1.a@example.com>", "1.a@example.com", "once", "BOB@example.com", "pk"]
)
def test_a_message_is_found_by_its_ids_and_its_address(found_by: str) -> None:
    row = ask()
    ask("eve@example.com")
    Notification.objects.filter(pk=row.pk).update(about_type="a.b", about_id="7-A", key="once")
    row.attempt_set.create(number=1, outcome="accepted", message_id="<1.a@example.com>")
    term = f"#{row.pk}" if found_by == "pk" else found_by
    content = text_of(boss(), list_of("notification"), q=f" {term} ")
    assert BOB in content
    assert "eve@example.com" not in content


def test_an_address_finds_nothing_for_who_may_not_see_it() -> None:
    ask()
    client = staff("view_notification")
    assert "0 notifications" in text_of(client, list_of("notification"), q=BOB)


@pytest.mark.parametrize("found_by", ["number", "fingerprint", "address"])
def test_a_dead_letter_is_found_by_its_order_and_by_its_like(script: Script, found_by: str) -> None:
    dead, order = letter(script), make_order()
    task = Task.objects.create(name="shop.stock.load", queue="default", state=State.DEAD)
    DeadLetter.objects.create(task=task, name=task.name, reason="r", attempts=1, fingerprint="f")
    Notification.objects.update(about_type="orders.order", about_id=str(order.pk))
    term = {"number": order.number, "fingerprint": dead.fingerprint, "address": BOB}[found_by]
    content = text_of(boss(), list_of("deadletter"), q=term)
    assert "1 dead letter" in content
    assert BOB in content
