"""The commands: what they do, ask, refuse, and exit with."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper
from django.db import connection, transaction
from django.db.models.functions import Now

from notifications import holds, signals
from notifications.dispatch import notify
from notifications.management import base, progress
from notifications.models import DeadLetter, Hold, Notification, Stamp, State
from tests.scripted import Note, scripted

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def settings_of_the_test() -> Iterator[None]:
    with scripted():
        yield


def ask() -> Notification:
    with transaction.atomic():
        return notify(Note, to="bob@example.com")[0]


def run(name: str, *args: str, **options: Any) -> str:
    out = StringIO()
    call_command(name, *args, stdout=out, **options)
    return out.getvalue()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A person at a terminal, who types what the test says."""

    def person(typed: str) -> None:
        monkeypatch.setattr(base.sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda _question: typed)

    return person


def sent_long_ago() -> None:
    ask()
    Notification.objects.update(
        state=State.SENT,
        created_at=Now() - timedelta(days=40),
        settled_at=Now() - timedelta(days=40),
    )


def test_clean_applies_the_retention() -> None:
    sent_long_ago()
    assert "1 rows" in run("notifications_clean", "--dry-run")
    assert Notification.objects.exists()
    assert json.loads(run("notifications_clean", "--json"))["rows"] == 1
    assert not Notification.objects.exists()


def test_clean_by_state_and_age_asks_first(terminal: Any) -> None:
    sent_long_ago()
    options = ["--state", "sent", "--older-than", "1d", "--queue", "note"]
    with pytest.raises(CommandError, match="--no-input"):
        run("notifications_clean", *options)
    terminal("no")
    with pytest.raises(CommandError, match="Left alone"):
        run("notifications_clean", *options)
    assert Notification.objects.exists()
    terminal("yes")
    assert "1 rows" in run("notifications_clean", *options)


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("notifications_clean", ["--state", "pending", "--no-input"], "pending"),
        ("notifications_clean", ["--older-than", "ages", "--no-input"], "30d"),
        ("notifications_clean", ["--queue", "nowhere"], "there are: default"),
        ("notifications_empty", ["nowhere", "--no-input"], "there are: default"),
        ("notifications_pause", ["note", "--for", "ever"], "30d"),
        ("notifications_drain", ["nowhere"], "there are: default"),
        ("notifications_pause", ["note", "--for", "0s"], "longer than nothing"),
        ("notifications_pause", ["host"], "'host' carries jobs of the project's own"),
        ("notifications_resume", ["host"], "of this app there are: default, note"),
        ("notifications_empty", ["host", "--no-input"], "jobs of the project's own"),
        ("notifications_drain", ["host"], "jobs of the project's own"),
        ("notifications_dead", ["--limit", "-1"], "--limit must be 1 or more"),
        ("notifications_dead", ["--group", "--limit", "0"], "--limit must be 1 or more"),
        ("notifications_stats", ["--watch", "-1"], "--watch must be 1 or more"),
        ("notifications_stats", ["--watch", "nan"], "--watch must be 1 or more"),
        ("notifications_stats", ["--watch", "inf"], "--watch must be 1 or more"),
        ("rqworker", ["nope", "--burst"], "Not in RQ_QUEUES: nope"),
    ],
)
def test_wrong_usage_exits_with_2(command: str, arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words) as caught:
        run(command, *arguments)
    assert caught.value.returncode == 2
    assert not Hold.objects.exists()


def test_empty_asks_for_the_queues_name(terminal: Any) -> None:
    ask()
    assert "1 rows of note would be cancelled" in run("notifications_empty", "note", "--dry-run")
    terminal("yes")
    with pytest.raises(CommandError, match="Left alone"):
        run("notifications_empty", "note")
    terminal("note")
    assert "1 rows of note cancelled" in run("notifications_empty", "note")
    assert Notification.objects.get().state == State.CANCELLED


def test_drain_delivers_what_is_due() -> None:
    ask()
    assert "note: 0 rows still wait" in run("notifications_drain", "note")
    assert Notification.objects.get().state == State.SENT


def test_pause_and_resume() -> None:
    run("notifications_pause", "note", "--for", "30m", "--reason", "moving")
    held = Hold.objects.get()
    assert (held.reason, held.until is None) == ("moving", False)
    assert "goes on" in run("notifications_resume", "note")
    assert "was not held" in run("notifications_resume", "note")


def test_adopt_says_what_would_go_out_and_asks(terminal: Any) -> None:
    ask()
    Stamp.objects.update_or_create(pk=1, defaults={"environment": "production"})
    holds.forget()
    assert "1 rows wait" in run("notifications_adopt", "--dry-run")
    terminal("yes")
    with pytest.raises(CommandError, match="Left alone"):
        run("notifications_adopt")
    terminal("test")
    assert "now belongs to 'test'" in run("notifications_adopt")
    assert "already" in run("notifications_adopt")


def test_programs_read_json(terminal: Any) -> None:
    def told(*words: str) -> Any:
        return json.loads(run(*words, "--json"))

    ask()
    assert told("notifications_pause", "note", "--for", "30m", "--reason", "wet") == {
        "queue": "note", "reason": "wet", "seconds": 1800.0
    }  # fmt: skip
    assert told("notifications_resume", "note") == {"queue": "note", "lifted": True}
    assert told("notifications_drain", "note") == {"queue": "note", "waiting": 0}
    facts = {"environment": "test", "belonged_to": "test", "dry_run": False, "waiting": 0}
    assert told("notifications_adopt") == facts
    ask()
    Stamp.objects.update_or_create(pk=1, defaults={"environment": "production"})
    holds.forget()
    facts |= {"belonged_to": "production", "waiting": 1}
    assert told("notifications_adopt", "--dry-run") == {**facts, "dry_run": True}
    assert told("notifications_adopt", "--no-input") == facts


class Screen(StringIO):
    """A terminal that somebody looks at."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """What was drawn, each time."""
        return [line.strip() for line in self.getvalue().split("\r") if line.strip()]


def sent_dead(count: int) -> None:
    for _each in range(count):
        row = ask()
        Notification.objects.filter(pk=row.pk).update(state=State.DEAD)
        DeadLetter.objects.create(notification=row, queue="note", name="test_note", attempts=1)


@pytest.mark.parametrize(
    ("words", "drawn", "said"),
    [
        (["notifications_retry", "--all", "--no-input"], "3 of 3 retried", "3 retried."),
        (["notifications_discard", "--all", "--no-input"], "3 of 3 discarded", "3 discarded."),
        (["notifications_empty", "note", "--no-input"], "2 of 2 cancelled", "2 rows of note canc"),
        (["notifications_drain", "note"], "2 done", "note: 0 rows still wait."),
        (["notifications_clean"], "1 rows removed", "1 rows and 0 RQ jobs removed."),
    ],
)
def test_a_person_sees_how_far_it_is(
    words: list[str], drawn: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "OFTEN", 0.0)
    sent_long_ago()
    sent_dead(3)
    ask()
    ask()
    screen = Screen()
    call_command(*words, stdout=screen)
    assert drawn in screen.lines()
    assert screen.lines()[-1].startswith(said)
    assert not signals.completed.has_listeners()


def test_programs_see_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "OFTEN", 0.0)
    sent_dead(3)
    assert "\r" not in run("notifications_retry", "--all", "--no-input")
    screen = Screen()
    call_command("notifications_empty", "note", "--no-input", "--json", stdout=screen)
    assert json.loads(screen.getvalue())["cancelled"] == 3


def test_a_line_is_drawn_now_and_then_and_wholly_over_the_last_one() -> None:
    screen = Screen()
    with progress.Progress(OutputWrapper(screen), "rows", of=None, shown=True) as shown:
        shown.add(1000)
        for _each in range(50):
            shown.add(1)
    assert screen.getvalue() == "\r1000 rows\r         \r"


def test_what_comes_while_a_person_thinks_is_not_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ask()
    later: list[Notification] = []

    def think(question: str) -> str:
        assert "Cancel the 1 rows that wait in note now?" in question
        later.append(ask())
        return "note"

    monkeypatch.setattr(base.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", think)
    assert "1 rows of note cancelled" in run("notifications_empty", "note")
    for row, state in ((before, State.CANCELLED), (later[0], State.PENDING)):
        row.refresh_from_db()
        assert row.state == state


@pytest.mark.sqlite_only
def test_any_number_of_dead_letters_is_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    sent_dead(120)
    with connection.cursor():
        raw = connection.connection
    most = raw.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 110)  # as 250,000 is anywhere
    try:
        assert "120 discarded." in run("notifications_discard", "--all", "--no-input")
    finally:
        raw.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, most)
