"""Asking for messages: one row for each, in the caller's transaction, or a clear refusal."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from notifications.dispatch import Recipient, notify, notify_many, send_email
from notifications.errors import (
    InvalidAddress,
    InvalidPayload,
    KeyReused,
    OutsideTransaction,
    UnknownChannel,
)
from notifications.models import Notification, Priority
from notifications.muting import muted
from tests.scripted import SETTINGS, Note, scripted

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


def test_under_one_key_each_recipient_has_a_message_whatever_their_order() -> None:
    with transaction.atomic():
        first = notify(Note, to=["ann@example.com", "bob@example.com"], key="order-7")
        again = notify(Note, to=["bob@example.com", "cy@example.com"], key="order-7")
        alone = notify(Note, to="ann@example.com", key="order-7")
    assert [row.to for row in first] == ["ann@example.com", "bob@example.com"]
    assert [row.pk for row in again] == [first[1].pk, again[1].pk]
    assert [row.pk for row in alone] == [first[0].pk]
    assert Notification.objects.count() == 3


def test_recipients_may_have_keys_of_their_own_or_none() -> None:
    def ask() -> list[Notification]:
        people = [
            Recipient(addresses={"note": "ann@example.com"}, key="a"),
            Recipient(addresses={"note": "bob@example.com"}),
            Recipient(addresses={"note": "cy@example.com"}, key="c"),
        ]
        with transaction.atomic():
            return notify(Note, to=people)

    ann, bob, cy = ask()
    assert [row.to[0] for row in (ann, bob, cy)] == ["a", "b", "c"]
    again = ask()
    assert [row.pk for row in again] == [ann.pk, again[1].pk, cy.pk]
    assert again[1].pk != bob.pk
    assert Notification.objects.count() == 4


def test_a_key_works_for_mail_without_a_kind_and_for_each_of_its_recipients(settings: Any) -> None:
    settings.NOTIFICATIONS = {**SETTINGS, "CHANNELS": {"email": {}}}
    people = ["ann@example.com", "bob@example.com"]
    with transaction.atomic():
        first = send_email(to=people, subject="Hello", text="you", key="greeting")
        again = send_email(to=people[::-1], subject="Hello", text="you", key="greeting")
    assert [row.pk for row in again] == [row.pk for row in first[::-1]]
    assert [row.to for row in first] == people


class Other(Note):
    """Another kind."""

    name = "test_other_note"


def test_a_key_of_another_kind_is_refused_and_nothing_is_written() -> None:
    with transaction.atomic():
        notify(Note, to="bob@example.com", key="order-7")
        with pytest.raises(KeyReused, match=r"'order-7'.*test_note #\d+ to the same address"):
            notify(Other, to=["ann@example.com", "bob@example.com"], key="order-7")
        assert Notification.objects.count() == 1
        notify(Other, to="ann@example.com", key="order-7")  # who has none under this key
    assert Notification.objects.count() == 2


def test_two_users_with_one_address_need_two_keys() -> None:
    users = get_user_model().objects
    ann, bob = (users.create_user(name, email="both@example.com") for name in ("ann", "bob"))
    with pytest.raises(KeyReused), transaction.atomic():
        notify(Note, to=[ann, bob], key="order-7")
    assert not Notification.objects.exists()
    with transaction.atomic():
        notify(Note, to=[Recipient(user, key=f"order-7-{user.pk}") for user in (ann, bob)])
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
        ({"context": {"x": ["a\0"]}}, InvalidPayload, "a NUL character"),
        ({"context": {"\\\0": 1}}, InvalidPayload, "a NUL character"),
        ({"context": {"x": "\ud83d!"}}, InvalidPayload, r"half a character \('\\ud83d'"),
        ({"to": Recipient(addresses={"*": "a@b.c"}, context={"x": "\0"})}, InvalidPayload, "NUL"),
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
