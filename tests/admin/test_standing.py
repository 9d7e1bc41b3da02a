"""How a row stands, and what happened to it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from notifications import operations
from notifications.admin.standing import judge
from notifications.admin.timeline import entries
from notifications.models import Notification, Receipt, State, Task
from notifications.muting import muted
from notifications.outbox import PARKED
from orders.models import User
from tests.admin.screens import BOB, ask, boss, letter, list_of, page_of, serve, text_of
from tests.scripted import ACCEPTED, LATER, REFUSED, Script

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("columns", "word", "tone"),
    [
        ({}, "waiting", "wait"),
        ({"due_at": timedelta(hours=2)}, "scheduled", "wait"),
        ({"due_at": timedelta(seconds=30), "attempts": 1}, "retrying", "warn"),
        ({"due_at": timedelta(seconds=20), "token": "0" * 32}, "under way", "wait"),
        ({"due_at": timedelta(seconds=-5), "token": "0" * 32}, "waiting", "wait"),
        ({"due_at": PARKED, "reason": "too old"}, "held", "warn"),
    ],
)
def test_a_waiting_row_says_what_it_waits_for(
    columns: dict[str, Any], word: str, tone: str
) -> None:
    due = columns.get("due_at", timedelta(seconds=-1))
    columns = {**columns, "due_at": timezone.now() + due if isinstance(due, timedelta) else due}
    row = ask()
    Notification.objects.update(**columns)
    row.refresh_from_db()
    standing = judge(row)
    assert (standing.word, standing.tone) == (word, tone)
    assert f'<span class="ntf-chip ntf-{tone}">{word}</span>' in text_of(
        boss(), list_of("notification")
    )


@pytest.mark.parametrize("due", [timedelta(seconds=2), timedelta(seconds=-2)])
def test_long_work_is_under_way_between_its_slices(due: timedelta) -> None:
    row = Task(queue="default", state=State.PENDING, due_at=timezone.now() + due)
    assert judge(row).word != "under way"
    row.result = {"done": 3, "of": 6}
    assert judge(row).word == "under way"


@pytest.mark.parametrize("model", [Notification, Task])
@pytest.mark.parametrize("state", set(State) - {State.PENDING})
def test_every_end_has_a_word_a_colour_and_an_answer(model: Any, state: State) -> None:
    row = model(state=state, settled_at=timezone.now(), queue="note", reason="")
    standing = judge(row)
    assert standing.word == state.label
    assert standing.tone in {"good", "warn", "bad", "off"}
    assert str(standing.sentence).endswith(".")
    assert standing.note == "0 s ago"


def test_what_is_held_says_why() -> None:
    row = ask()
    operations.pause("note", reason="the printer burns")
    assert judge(row).word == "held"
    assert "the printer burns" in text_of(boss(), page_of(row))


def test_the_timeline_tells_all_newest_first(script: Script) -> None:
    script.answer(BOB, LATER, REFUSED)
    row = serve(ask())
    with muted():
        someone = User.objects.create_superuser("boss")
    operations.retry(row, by=someone)
    row.refresh_from_db()
    script.answer(BOB, ACCEPTED)
    serve(row)
    assert [(each.title, each.tone) for each in entries(row, revealed=True)] == [
        ("Attempt 1: accepted by first", "good"),
        ("Retried. – boss", "off"),
        ("Attempt 2: refused for good by first", "bad"),
        ("Attempt 1: failed for now by first", "warn"),
        ("Asked for", "off"),
    ]


def test_the_timeline_ends_with_what_comes_or_with_what_came_of_it(script: Script) -> None:
    row = ask(delay=timedelta(hours=2))
    row.refresh_from_db()
    assert entries(row, revealed=True)[0].title == "First attempt in 1\xa0hour"
    operations.cancel(row)
    row.refresh_from_db()
    assert entries(row, revealed=True)[0].title == "Cancelled"
    dead = letter(script)
    assert [each.title for each in entries(dead.work, revealed=True)][:2] == [
        "Dead",
        "Attempt 1: refused for good by first",
    ]


def test_the_timeline_tells_what_the_provider_reported() -> None:
    row = serve(ask())
    for number, fate in enumerate(["deferred", "delivered"]):
        Receipt.objects.create(
            provider="first", key=str(number), fate=fate, code="250", text="ok", notification=row,
            at=timezone.now(),
        )  # fmt: skip
    Notification.objects.update(state=State.DELIVERED)
    row.refresh_from_db()
    told = entries(row, revealed=True)
    assert [(each.title, each.tone) for each in told] == [
        ("first reports: delivered", "good"),
        ("first reports: delayed", "warn"),
        ("Attempt 1: accepted by first", "good"),
        ("Asked for", "off"),
    ]
    assert told[0].detail == "250 ok"
    assert "first reports: delivered" in text_of(boss(), page_of(row))
