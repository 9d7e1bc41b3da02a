"""How the messages fare that were asked for within a window."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications import overview
from notifications.dispatch import notify
from notifications.models import Notification, QueueTally, State
from notifications.overview import WINDOWS
from tests.scripted import Note, Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


def ask(state: str, ago: timedelta = timedelta(0), channel: str = "note") -> Notification:
    with transaction.atomic():
        (row,) = notify(Note, to="bob@example.com")
    Notification.objects.filter(pk=row.pk).update(
        state=state, created_at=Now() - ago, channel=channel
    )
    return row


def test_every_state_counts_as_something() -> None:
    for state in State:
        ask(state)
    seen = overview.look(WINDOWS["1h"])
    assert (seen.total.sent, seen.total.failed) == (4, 4)
    assert (seen.total.waiting, seen.total.withheld) == (1, 3)
    assert seen.total.rate == 50.0
    assert sum(tally.sent for _at, tally in seen.steps) == 4


@pytest.mark.parametrize(
    ("name", "steps"), [("1h", {60, 61}), ("24h", {24, 25}), ("7d", {28, 29}), ("30d", {30, 31})]
)
def test_a_window_has_its_steps_and_leaves_out_what_is_older(name: str, steps: set[int]) -> None:
    window = WINDOWS[name]
    ask("sent")
    ask("sent", window.length - timedelta(seconds=5))
    ask("sent", window.length + timedelta(seconds=5))
    seen = overview.look(window)
    assert len(seen.steps) in steps
    assert (seen.total.sent, seen.whole) == (2, True)
    counts = [tally.sent for _at, tally in seen.steps]
    assert (sum(counts[:2]), sum(counts[-2:])) == (1, 1)  # a step may end meanwhile
    times = [at for at, _tally in seen.steps]
    assert times == sorted(times)
    assert times[0] <= seen.since <= timezone.now() - window.length + timedelta(seconds=5)


def test_channels_are_counted_apart() -> None:
    ask("sent")
    ask("dead", channel="sms")
    ask("pending", channel="sms")
    channels = overview.look(WINDOWS["24h"]).channels
    assert list(channels) == ["note", "sms"]
    assert [each.rate for each in channels.values()] == [100.0, 0.0]
    assert channels["sms"].waiting == 1


def test_nothing_has_no_rate() -> None:
    seen = overview.look(WINDOWS["30d"])
    assert (seen.total.rate, seen.channels, seen.whole) == (None, {}, True)


def test_a_window_with_too_many_says_from_when_on_it_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = ask("sent", timedelta(hours=3))
    ask("sent", timedelta(hours=2))
    new = ask("sent")
    monkeypatch.setattr(overview, "LOOKED_AT", new.pk - old.pk)
    seen = overview.look(WINDOWS["24h"])
    assert (seen.total.sent, seen.whole) == (2, False)
    assert timedelta(hours=1) < timezone.now() - seen.since < timedelta(hours=3, minutes=1)
    assert overview.look(WINDOWS["1h"]).whole


def test_a_window_with_too_many_is_told_by_what_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    old = ask("sent", timedelta(hours=3))
    new = ask("pending")
    monkeypatch.setattr(overview, "LOOKED_AT", new.pk - old.pk)
    ask("pending")
    for queue, what, count in [
        ("note", "accepted", 70),
        ("note", "dead", 30),
        ("note", "later", 9),
        ("default", "done", 8),
    ]:
        at = timezone.now() - timedelta(hours=2)
        QueueTally.objects.create(since=at, queue=queue, what=what, count=count)
    seen = overview.look(WINDOWS["24h"])
    assert (seen.total.sent, seen.total.failed, seen.total.rate) == (70, 30, 70.0)
    assert (seen.tallied, seen.whole, list(seen.channels)) == (True, True, ["note"])
    assert sum(tally.failed for _at, tally in seen.steps) == 30
    assert not overview.look(WINDOWS["1h"]).tallied


def test_it_asks_the_same_few_questions_however_many_there_are() -> None:
    for _each in range(5):
        ask("sent")
    with CaptureQueriesContext(connection) as queries:
        overview.look(WINDOWS["7d"])
    assert len(queries) <= 3
    assert set(overview._FATES) == set(State)
