"""Asking for messages: one row for each, in the caller's transaction, or a clear refusal."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from notifications.dispatch import Recipient, notify, notify_many
from notifications.errors import InvalidAddress, InvalidPayload, OutsideTransaction, UnknownChannel
from notifications.models import Notification, Priority
from notifications.muting import muted
from tests.scripted import Note, scripted

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def settings_of_the_test() -> Iterator[None]:
    with scripted():
        yield


def test_a_row_says_all_that_was_asked_for() -> None:
    user = get_user_model().objects.create_user("ann", email="ann@example.com")
    with transaction.atomic():
        [row] = notify(Note, to=user, context={"order_id": 7}, about=user, priority=Priority.HIGH)
    row.refresh_from_db()
    assert (row.kind, row.channel, row.queue, row.state) == ("test_note", "note", "note", "pending")
    assert (row.to, row.user, row.context, row.priority) == (
        "ann@example.com",
        user,
        {"order_id": 7},
        1,
    )
    assert (row.about_type, row.about_id) == (user._meta.label_lower, str(user.pk))
    assert row.token is None
    assert row.due_at == row.wanted_at


def test_rolled_back_means_never_asked() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
        notify(Note, to="ann@example.com")
        1 / 0  # noqa: B018
    assert not Notification.objects.exists()


def test_the_same_key_gives_the_same_row() -> None:
    with transaction.atomic():
        [first] = notify(Note, to="ann@example.com", key="order-7")
        [second] = notify(Note, to="ann@example.com", key="order-7")
        [other] = notify(Note, to="ann@example.com", key="order-8")
    assert first.pk == second.pk != other.pk
    assert Notification.objects.count() == 2


def test_many_recipients_in_one_call() -> None:
    with transaction.atomic():
        rows = notify(Note, to=["a@example.com", "b@example.com"])
    assert [row.to for row in rows] == ["a@example.com", "b@example.com"]


def test_a_campaign_gives_each_recipient_its_own_values_and_skips_bad_addresses() -> None:
    people = [
        Recipient(addresses={"note": f"u{n}@example.com"}, context={"n": n}) for n in range(25)
    ]
    people[3] = Recipient(addresses={"note": "nowhere"})
    with transaction.atomic():
        written = notify_many(Note, people, context={"sale": "june"}, batch_size=10)
    assert written == 24
    assert Notification.objects.get(to="u7@example.com").context == {"sale": "june", "n": 7}


@pytest.mark.parametrize("options", [{"delay": 60}, {"delay": timedelta(minutes=1)}])
def test_a_delay_counts_from_the_databases_now(options: dict[str, object]) -> None:
    with transaction.atomic():
        notify(Note, to="ann@example.com", **options)  # type: ignore[arg-type]
    row = Notification.objects.annotate(now=Now()).get()
    assert timedelta(seconds=50) < row.due_at - row.now <= timedelta(seconds=60)


def test_a_time_may_be_given_instead() -> None:
    at = timezone.now() + timedelta(days=1)
    with transaction.atomic():
        [row] = notify(Note, to="ann@example.com", at=at)
    row.refresh_from_db()
    assert row.due_at == row.wanted_at == at


def test_an_expiry_counts_from_when_it_is_due() -> None:
    with transaction.atomic():
        notify(Note, to="ann@example.com", delay=60, expires_after=timedelta(minutes=5))
    row = Notification.objects.get()
    assert row.expires_at is not None
    assert timedelta(seconds=299) < row.expires_at - row.due_at < timedelta(seconds=301)


def test_a_call_may_set_its_own_retry_policy() -> None:
    with transaction.atomic():
        [row] = notify(Note, to="ann@example.com", retries=1, backoff="fixed", base=9)
    assert row.retry == {"retries": 1, "backoff": "fixed", "base": 9}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"to": "nowhere"}, InvalidAddress, "@"),
        ({"to": Recipient()}, InvalidAddress, "no address"),
        ({"context": {"when": datetime.date(2026, 1, 1)}}, InvalidPayload, "plain values"),
        ({"context": {"sum": Decimal(1)}}, InvalidPayload, "plain values"),
        ({"context": {"x": float("nan")}}, InvalidPayload, "plain values"),
        ({"channels": ["pigeon"]}, UnknownChannel, "pigeon"),
        ({"delay": 1, "at": timezone.now()}, ValueError, "not both"),
        ({"at": datetime.datetime(2026, 1, 1)}, ValueError, "time zone"),
        ({"retries": -1}, ValueError, "negative"),
        ({"priority": 5}, ValueError, r"5 is no priority; there are CRITICAL \(0\), "),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_written(
    call: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words), transaction.atomic():
        notify(Note, **{"to": "ann@example.com", **call})  # type: ignore[arg-type]
    assert not Notification.objects.exists()


def test_a_user_without_an_address_is_named_by_id() -> None:
    user = get_user_model().objects.create_user("ann")
    with (
        pytest.raises(InvalidAddress, match=f"user {user.pk} has no address"),
        transaction.atomic(),
    ):
        notify(Note, to=user)


def test_muted_means_nobody_hears() -> None:
    with muted(), transaction.atomic():
        assert notify(Note, to="ann@example.com") == []
        assert notify_many(Note, ["ann@example.com"]) == 0
    assert not Notification.objects.exists()


def test_outside_a_transaction_there_is_a_warning() -> None:
    with pytest.warns(RuntimeWarning, match="outside a transaction"):
        notify(Note, to="ann@example.com")
    assert Notification.objects.count() == 1


def test_strict_mode_refuses_outside_a_transaction() -> None:
    with scripted(_STRICT=True), pytest.raises(OutsideTransaction, match=r"transaction\.atomic"):
        notify(Note, to="ann@example.com")
    assert not Notification.objects.exists()
