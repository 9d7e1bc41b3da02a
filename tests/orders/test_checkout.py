"""How an order is placed, and how it goes on."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from notifications.models import Task
from orders.checkout import place_order, shipping_for
from orders.models import Order, OrderItem, User
from orders.progress import cancel_order, pay_order, ship_order
from tests.orders.shop import make_customer, make_order, make_product

pytestmark = pytest.mark.django_db


def test_an_order_keeps_the_prices_of_its_day() -> None:
    tea, pot = make_product(), make_product("Teapot", "34.00")
    order = place_order(make_customer(), basket={tea: 2, pot: 1}, payment="prepaid", address="here")
    tea.price = Decimal("99.00")
    tea.save()
    assert [(item.quantity, item.name, item.total) for item in order.items.all()] == [
        (2, "Sencha", Decimal("20.80")),
        (1, "Teapot", Decimal("34.00")),
    ]
    assert (order.shipping, order.total) == (Decimal(0), Decimal("54.80"))
    assert list(Task.objects.values_list("topic", flat=True)) == ["order.placed"]


@pytest.mark.parametrize(
    ("goods", "shipping"), [("0.01", "3.90"), ("39.99", "3.90"), ("40.00", "0"), ("100", "0")]
)
def test_shipping_is_free_from_forty(goods: str, shipping: str) -> None:
    assert shipping_for(Decimal(goods)) == Decimal(shipping)


def test_a_basket_that_cannot_be_ordered_is_refused() -> None:
    customer, tea = make_customer(), make_product()
    for basket, reason in [
        ({}, "empty"),
        ({tea: 0}, "from 1 to 99"),
        ({tea: 100}, "from 1 to 99"),
        ({tea: 1, make_product("Scone", currency="GBP"): 1}, "one currency"),
        ({make_product("Gone", available=False): 1}, "sold out"),
    ]:
        with pytest.raises(ValidationError, match=reason):
            place_order(customer, basket=basket, payment="prepaid", address="here")
    with pytest.raises(ValueError, match="barter"):
        place_order(customer, basket={tea: 1}, payment="barter", address="here")
    assert not Order.objects.exists()


def test_an_order_is_written_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    customer, tea = make_customer(), make_product()

    def fail(*args: object) -> None:
        raise IntegrityError

    monkeypatch.setattr(OrderItem.objects, "bulk_create", fail)
    with pytest.raises(IntegrityError):
        place_order(customer, basket={tea: 1}, payment="prepaid", address="here")
    assert not Order.objects.exists()
    assert not Task.objects.exists()


def test_order_numbers_are_not_counted() -> None:
    customer = make_customer()
    numbers = {Order.objects.create(customer=customer).number for _each in range(20)}
    assert len(numbers) == 20
    assert all(len(number) == 9 and number[4] == "-" for number in numbers)


@pytest.mark.parametrize(
    ("move", "payment", "before", "after"),
    [
        (pay_order, "prepaid", "placed", "paid"),
        (pay_order, "prepaid", "paid", None),
        (pay_order, "prepaid", "cancelled", None),
        (ship_order, "prepaid", "placed", None),
        (ship_order, "prepaid", "paid", "shipped"),
        (ship_order, "cash_on_delivery", "placed", "shipped"),
        (ship_order, "prepaid", "shipped", None),
        (cancel_order, "prepaid", "placed", "cancelled"),
        (cancel_order, "prepaid", "paid", None),
        (cancel_order, "cash_on_delivery", "shipped", None),
    ],
)
def test_moves(move: object, payment: str, before: str, after: str | None) -> None:
    order = make_order(payment=payment, status=before)
    assert move(order) is (after is not None)
    order.refresh_from_db()
    assert order.status == (after or before)


def test_a_move_looks_at_the_order_as_it_is_now() -> None:
    stale = make_order()
    assert pay_order(Order.objects.get(pk=stale.pk))
    assert not cancel_order(stale)
    assert Order.objects.get().status == Order.Status.PAID


def test_a_line_takes_over_what_is_not_given() -> None:
    order, pot = make_order(), make_product("Teapot", "34.00")
    line = OrderItem.objects.create(order=order, product=pot)
    assert (line.name, line.unit_price) == ("Teapot", Decimal("34.00"))
    dear = OrderItem.objects.create(order=order, product=pot, unit_price=Decimal("50.00"))
    assert dear.total == Decimal("50.00")
    with pytest.raises(ValidationError, match="Choose a product"):
        OrderItem(order=order, name="a thing without a price").full_clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        OrderItem.objects.create(order=order, product=pot, quantity=0)


def test_phones_are_international() -> None:
    user = make_customer()
    for phone, fine in [
        ("", True),
        ("+491701234567", True),
        ("0170 1234567", False),
        ("+49 170", False),
        ("+0123456789", False),
    ]:
        user.phone = phone
        if fine:
            user.full_clean(exclude=["password"])
            continue
        with pytest.raises(ValidationError, match="phone"):
            user.full_clean(exclude=["password"])


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"first_name": "Ada"}, "Ada"),
        ({"last_name": "Lovelace"}, "Lovelace"),
        ({}, "ada@example.com"),
    ],
)
def test_how_users_are_called(fields: dict[str, str], name: str) -> None:
    assert User(username="ada@example.com", **fields).calling_name == name
