"""`manage.py place_orders`: realistic orders through the storefront's code."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from notifications.models import Task
from orders.models import Order, Product, User

pytestmark = pytest.mark.django_db


def place(*words: str, **options: Any) -> tuple[str, str]:
    """What it printed, and why it failed."""
    out = StringIO()
    try:
        call_command("place_orders", *words, stdout=out, **options)
    except CommandError as error:
        return out.getvalue(), str(error)
    return out.getvalue(), ""


def test_it_prints_the_ids_of_what_it_placed() -> None:
    printed, failure = place("--count", "7", "--customers", "3")
    ids = [int(line) for line in printed.split()]
    assert failure == ""
    assert sorted(Order.objects.values_list("pk", flat=True)) == ids
    assert len(ids) == Task.objects.filter(topic="order.placed").count() == 7
    assert Task.objects.count() == 7  # the customers are not welcomed
    assert User.objects.count() == 3
    for order in Order.objects.prefetch_related("items"):
        assert order.items.count() >= 1
        assert order.total > 0
        assert order.address


def test_json_is_for_programs() -> None:
    printed, _failure = place("--count", "3", "--json")
    answer = json.loads(printed)
    assert len(answer["order_ids"]) == Order.objects.count() == 3
    assert 0 < answer["seconds"] < 30


def test_a_seed_draws_the_same_orders_again() -> None:
    place("--count", "8", "--seed", "1")
    place("--count", "8", "--seed", "1")
    drawn = [
        (order.payment, [(item.name, item.quantity) for item in order.items.all()])
        for order in Order.objects.order_by("pk")
    ]
    assert drawn[:8] == drawn[8:]
    assert {order[0] for order in drawn} == {"prepaid", "cash_on_delivery"}


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_failure_keeps_what_was_placed_before(words: list[str]) -> None:
    printed, failure = place("--count", "5", "--fail-after", "2", *words)
    assert failure == "failed after 2 orders, as told"
    ids = json.loads(printed)["order_ids"] if words else [int(line) for line in printed.split()]
    assert ids == list(Order.objects.order_by("pk").values_list("pk", flat=True))
    assert len(ids) == 2


@pytest.mark.parametrize("after", ["0", "2", "5"])
def test_a_failure_in_one_transaction_keeps_nothing(after: str) -> None:
    printed, failure = place("--count", "5", "--fail-after", after, "--in-one-transaction")
    assert failure == f"failed after {after} orders, as told"
    assert printed.split() == []
    assert not Order.objects.exists()
    assert not Task.objects.exists()


def test_one_transaction_commits_all() -> None:
    printed, _failure = place("--count", "4", "--in-one-transaction")
    assert len(printed.split()) == Order.objects.count() == 4


def test_nonsense_is_refused() -> None:
    assert "--count" in place("--count", "-1")[1]
    assert "--customers" in place("--count", "1", "--customers", "0")[1]


def test_the_shop_is_loaded_once() -> None:
    place("--count", "1")
    Product.objects.filter(slug="sencha").update(price="1.00")
    out = StringIO()
    call_command("load_shop", "--customers", "12", stdout=out)
    assert out.getvalue() == "8 products, 12 customers\n"
    assert Product.objects.count() == 8
    assert Product.objects.get(slug="sencha").price == 1
    assert User.objects.count() == 12
    assert set(User.objects.values_list("language", flat=True)) == {"en", "de"}
