"""Addresses that must not be written to: what blocks them, what goes out all the same, and who."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from notifications import jobs, outbox, sieve, suppressions
from notifications.dispatch import notify
from notifications.models import DeadLetter, Notification, Priority, State, Suppression
from notifications.suppressions import Reason, Unwanted
from tests.scripted import REFUSED, Note, Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)

ANN = "ann@example.com"


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


def ask(to: str = ANN, **options: Any) -> Notification:
    with transaction.atomic():
        return notify(Note, to=to, **options)[0]


def end_of(row: Notification) -> tuple[str, str]:
    jobs.serve("note")
    row.refresh_from_db()
    return row.state, row.reason


def suppress(reason: Reason = Reason.BOUNCE, address: str = ANN, channel: str = "note") -> None:
    suppressions.add([Unwanted(channel, address, reason, "a test")])


@pytest.mark.parametrize("reason", list(Reason))
def test_a_suppressed_address_is_not_written_to(script: Script, reason: Reason) -> None:
    suppress(reason)
    row, other = ask(), ask("bob@example.com")
    assert end_of(row) == (State.SUPPRESSED, f"{reason.label} (a test)")
    assert row.attempts == 0
    assert end_of(other)[0] == State.SENT
    assert script.rows() == [other.pk]


@pytest.mark.parametrize("reason", list(Reason))
def test_critical_messages_override_opt_outs_alone(reason: Reason) -> None:
    suppress(reason)
    state, _reason = end_of(ask(priority=Priority.CRITICAL))
    assert state == (State.SENT if reason is Reason.OPT_OUT else State.SUPPRESSED)


def test_an_opt_out_hides_no_bounce() -> None:
    suppress(Reason.OPT_OUT)
    suppress(Reason.BOUNCE)
    assert end_of(ask(priority=Priority.CRITICAL))[0] == State.SUPPRESSED
    assert len(suppressions.find("note", ANN)) == 2


def test_it_holds_for_its_channel_and_in_any_spelling() -> None:
    suppress(channel="another")
    assert end_of(ask())[0] == State.SENT
    suppress(address="Ann@Example.COM")
    assert end_of(ask())[0] == State.SUPPRESSED


def test_it_holds_for_the_address_that_is_really_written_to() -> None:
    suppress(address="me@example.com")
    with scripted(_RECIPIENTS={"REDIRECT": {"note": "me@example.com"}}):
        assert end_of(ask())[0] == State.SUPPRESSED
    assert end_of(ask())[0] == State.SENT


def test_what_lost_a_lease_is_looked_up_too() -> None:
    suppress()
    row = ask()
    Notification.objects.update(lapses=1)
    assert end_of(row)[0] == State.SUPPRESSED


def test_a_claim_costs_one_query_more_however_many_rows_it_has() -> None:
    for number in range(20):
        ask(f"{number}@example.com")
    rows = outbox.claim(Notification, "note", 20)
    with CaptureQueriesContext(connection) as queries:
        assert len(sieve.sift(rows).fit) == 20
    assert len(queries) == 1
    assert suppressions.blocked([]) == {}


def test_the_address_itself_is_not_kept() -> None:
    suppress()
    [kept] = Suppression.objects.values()
    assert ANN not in str(kept)
    assert kept["masked"] == "a…@e….com"
    with override_settings(SECRET_KEY="another"):
        suppress()
    assert Suppression.objects.values("digest").distinct().count() == 2  # the hash has a key


def test_a_new_secret_key_loses_nobody_while_the_former_one_is_known() -> None:
    with override_settings(SECRET_KEY="former"):
        suppress()
    assert suppressions.find("note", ANN) == []
    with override_settings(SECRET_KEY_FALLBACKS=["former"]):
        assert end_of(ask())[0] == State.SUPPRESSED
    with scripted(_SUPPRESSION_KEY="former"):
        assert end_of(ask())[0] == State.SUPPRESSED


def test_adding_twice_keeps_the_first() -> None:
    suppress()
    suppressions.add(
        [Unwanted("note", ANN, Reason.BOUNCE, "another"), Unwanted("note", "", Reason.BOUNCE, "")]
    )
    assert Suppression.objects.get().source == "a test"


def test_an_address_nobody_could_write_to_can_still_be_kept() -> None:
    suppress(address="  not an address  ")
    assert suppressions.find("note", "not an address")


def test_a_call_answered_with_never_again_suppresses(script: Script) -> None:
    script.answer(ANN, replace(REFUSED, code="21610", suppress=True))
    assert end_of(ask())[0] == State.SUPPRESSED
    assert not DeadLetter.objects.exists()
    kept = Suppression.objects.get()
    assert (kept.reason, kept.source) == ("opt_out", "answer of first")
    assert end_of(ask())[0] == State.SUPPRESSED
