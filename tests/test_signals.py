"""What happens is told, once it is true, in fixed words, and to nobody's harm."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.db.models.functions import Now

from notifications import (
    bulk,
    clock,
    holds,
    jobs,
    operations,
    receipts,
    reporting,
    signals,
    tasks,
)
from notifications.bulk import Verb
from notifications.dispatch import notify
from notifications.message import Fate, Outcome, Report, Verdict
from notifications.models import Alert, DeadLetter, Hold, Notification, Priority, State, Task
from notifications.service import Service, serve_safely
from notifications.signals import Happening
from notifications.tasks import task
from tests.orders.shop import make_customer
from tests.scripted import LATER, REFUSED, Note, Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)

ALL = {name: each for name, each in vars(signals).items() if isinstance(each, Happening)}
BOB = "bob@example.com"


@task(name="tests.signals.count", atomic=False)
def count() -> int:
    tasks.set_progress(50)
    return 7


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


@pytest.fixture
def heard() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Everything that is told."""
    told: list[tuple[str, dict[str, Any]]] = []

    def listen(signal: Any, sender: str, **facts: Any) -> None:
        told.append((sender, facts))

    for each in ALL.values():
        each.connect(listen)
    yield told
    for each in ALL.values():
        each.disconnect(listen)


def ask(to: str = BOB, **options: Any) -> Notification:
    with transaction.atomic():
        return notify(Note, to=to, context={"order_id": 7}, **options)[0]


def names(heard: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [name for name, _facts in heard]


def test_there_is_one_for_everything_that_happens() -> None:
    assert set(ALL) == {
        "waiting", "active", "progress", "completed", "failed", "stalled", "removed", "cleaned",
        "drained", "paused", "resumed", "error",
    }  # fmt: skip
    assert all(each.name == name for name, each in ALL.items())


def test_a_message_waits_is_taken_and_completed(heard: Any) -> None:
    row = ask()
    jobs.serve("note")
    assert names(heard) == ["waiting", "active", "completed", "drained"]
    common = {"work": "notification", "id": row.pk, "queue": "note", "title": "test_note",
              "priority": "normal"}  # fmt: skip
    assert heard[0][1] == common
    assert heard[2][1] == {
        **common, "state": "sent", "attempt": 1, "code": None, "reason": None,
    }  # fmt: skip
    assert BOB not in str(heard)


def test_nothing_is_told_of_what_was_rolled_back(heard: Any) -> None:
    with transaction.atomic():
        notify(Note, to=BOB)
        transaction.set_rollback(True)
    assert heard == []


def test_a_failure_is_told_with_its_code_and_the_next_attempt_as_waiting(
    script: Script, heard: Any
) -> None:
    script.answer(BOB, LATER, REFUSED)
    ask()
    for _attempt in range(2):
        Notification.objects.update(due_at=Now())
        jobs.serve("note")
    facts = [facts for name, facts in heard if name in ("waiting", "failed")]
    assert [(each.get("state"), each.get("attempt")) for each in facts] == [
        (None, None), ("pending", 1), ("dead", 2),
    ]  # fmt: skip
    assert facts[-1]["code"] == "550"


def test_the_administrators_hear_of_what_is_critical_once_for_each_kind(script: Script) -> None:
    for to in ("a@example.com", "b@example.com", "c@example.com"):
        script.answer(to, REFUSED)
    ask("a@example.com")
    jobs.serve("note")
    assert not Alert.objects.exists()
    for to in ("b@example.com", "c@example.com"):
        ask(to, priority=Priority.CRITICAL)
    operations.cancel(ask(priority=Priority.CRITICAL, delay=99))
    jobs.serve("note")
    told = Alert.objects.get()
    assert (told.key, told.times, told.channel) == ("critical test_note", 2, "note")
    assert "550" in told.text
    assert "@" not in told.text


def test_a_receipt_is_progress_or_failure(script: Script, heard: Any) -> None:
    script.answer(BOB, Outcome(Verdict.ACCEPTED, message_id="m-1"))
    ask()
    jobs.serve("note")
    heard.clear()
    receipts.take("first", [Report(Fate.DELIVERED, "m-1", "1")])
    receipts.take("first", [Report(Fate.COMPLAINED, "m-1", "2")])
    assert [(name, facts["state"]) for name, facts in heard] == [
        ("progress", "delivered"), ("failed", "complained"),
    ]  # fmt: skip


def test_a_task_tells_how_far_it_is(heard: Any) -> None:
    with transaction.atomic():
        count.enqueue()
    jobs.serve("default")
    assert names(heard) == ["waiting", "active", "progress", "completed", "drained"]
    assert heard[2][1]["percent"] == 50
    assert heard[3][1]["title"] == "tests.signals.count"


def test_a_lost_lease_is_told_when_the_row_is_taken_again(heard: Any) -> None:
    ask()
    Notification.objects.update(
        started=True, token="6f1b5c9e-0000-4000-8000-000000000000",
        due_at=Now() - timedelta(seconds=1),
    )  # fmt: skip
    jobs.serve("note")
    assert "stalled" in names(heard)


def test_what_people_do_is_told(script: Script, heard: Any) -> None:
    row = ask()
    operations.cancel(row)
    operations.retry(row)
    operations.remove(row)
    script.answer(BOB, REFUSED)
    ask()
    jobs.serve("note")
    heard.clear()
    operations.pause("note", reason="the printer")
    operations.resume("note")
    operations.discard(DeadLetter.objects.get())
    ask()
    operations.empty("note")
    operations.clean(states=["cancelled"], older_than=timedelta(seconds=-1))
    assert [name for name in names(heard) if name != "waiting"] == [
        "paused", "resumed", "removed", "cleaned", "cleaned",
    ]  # fmt: skip
    paused = heard[0][1]
    assert (paused["scope"], paused["held"], paused["reason"]) == ("queue", "note", "the printer")
    assert [facts["count"] for name, facts in heard if name == "cleaned"] == [1, 1]


def let_holds_end() -> None:
    Hold.objects.update(until=Now() - timedelta(seconds=1))


def test_the_end_of_a_pause_is_told_once_by_whichever_clock(heard: Any) -> None:
    operations.pause("note", duration=timedelta(hours=1))
    heard.clear()
    let_holds_end()
    for _each in range(2):
        clock.tick([])
    assert heard == [("resumed", {"scope": "queue", "held": "note"})]
    held = Hold.objects.get()
    assert held.lifted_at == held.until
    assert not operations.resume("note")  # nothing held it


def test_a_template_goes_on_when_its_time_is_over_and_a_provider_is_tried_first(
    heard: Any,
) -> None:
    holds.hold("template", "note/test_note", reason="paused", cause="provider", seconds=60)
    holds.trip("first", reason="down", cause="outage", seconds=5)
    let_holds_end()
    clock.tick([])
    assert [name for name in names(heard) if name == "resumed"] == ["resumed"]
    assert Hold.objects.get(lifted_at=None).name == "first"
    holds.forget()
    assert set(holds.current().half_open) == {"first"}


def test_a_pause_after_one_that_ran_out_is_a_new_one(heard: Any) -> None:
    operations.pause("note", reason="lunch", duration=timedelta(hours=1))
    let_holds_end()
    operations.pause("note", reason="the printer")
    assert names(heard) == ["paused", "resumed", "paused"]
    lunch, printer = Hold.objects.order_by("pk")
    assert (lunch.lifted_at, printer.lifted_at) == (lunch.until, None)
    assert printer.created_at > lunch.created_at
    let_holds_end()
    assert not operations.resume("note")
    assert names(heard)[3:] == ["resumed"]


def test_retrying_and_emptying_in_the_background_are_told(script: Script, heard: Any) -> None:
    script.answer(BOB, REFUSED)
    row = ask()
    jobs.serve("note")
    bulk.start(Verb.RETRY, bulk.freeze_letters())
    heard.clear()
    jobs.serve("default")
    [retried] = [facts for name, facts in heard if name == "waiting"]
    assert retried["id"] == row.pk
    bulk.start(Verb.EMPTY, bulk.freeze_queue("note"))
    jobs.serve("default")
    [emptied] = [facts for name, facts in heard if name == "cleaned"]
    assert (emptied["queue"], emptied["count"]) == ("note", 1)


def test_discarding_in_the_background_and_stopping_that_are_told(
    script: Script, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 1)
    ann = make_customer()
    script.answer(BOB, REFUSED)
    mail = ask()
    jobs.serve("note")
    gone = Task.objects.create(name="shop.load", queue="documents", state=State.DEAD)
    DeadLetter.objects.create(task=gone, name=gone.name, reason="r", attempts=1)
    row = bulk.start(Verb.DISCARD, bulk.freeze_letters(), by=ann)
    heard.clear()
    jobs.serve("default")
    told = [facts for name, facts in heard if name == "removed"]
    assert [(each["work"], each["id"], each["state"], each["by"]) for each in told] == [
        ("notification", mail.pk, "dead", ann.pk), ("task", gone.pk, "dead", ann.pk),
    ]  # fmt: skip
    far = [(facts["id"], facts["percent"]) for name, facts in heard if name == "progress"]
    assert far == [(row.pk, 50), (row.pk, 99)]
    ask()
    row = bulk.start(Verb.EMPTY, bulk.freeze_queue("note"))
    heard.clear()
    bulk.stop(row)
    assert [(name, facts["id"], facts["state"]) for name, facts in heard] == [
        ("removed", row.pk, "cancelled")
    ]


def test_an_error_of_the_machinery_is_told(
    heard: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*args: Any, **options: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(Service, "run", away)
    serve_safely(Service(("note",)), None)
    assert heard == [("error", {"where": "service", "error": "OperationalError"})]
    looks = iter([False, True])
    monkeypatch.setattr(clock, "tick", lambda queues: 1 / 0)
    monkeypatch.setattr(clock, "_sleep", lambda *args: None)
    clock.run(["note"], stopping=lambda: next(looks))
    assert heard[-1] == ("error", {"where": "clock", "error": "ZeroDivisionError"})
    assert "1 / 0" in caplog.records[-1].getMessage()  # its stack


def test_who_listens_and_raises_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def raises(**facts: Any) -> None:
        raise RuntimeError("the pager is down")

    for each in ALL.values():
        each.connect(raises)
    try:
        row = ask()
        jobs.serve("note")
    finally:
        for each in ALL.values():
            each.disconnect(raises)
    row.refresh_from_db()
    assert row.state == State.SENT
    assert "the pager is down" in caplog.text


def test_the_log_has_one_line_with_fixed_fields(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    script.answer(BOB, REFUSED)
    row = ask()
    with caplog.at_level(logging.DEBUG, "notifications.events"):
        jobs.serve("note")
    found = [each for each in caplog.records if each.name == "notifications.events"]
    failed: Any = next(each for each in found if each.levelname == "WARNING")
    assert failed.getMessage().startswith(f"failed work=notification id={row.pk} queue=note")
    assert (failed.event, failed.queue, failed.code) == ("failed", "note", "550")
    assert [each.levelname for each in found] == ["DEBUG", "WARNING", "DEBUG"]


def test_where_nobody_listens_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Notification(pk=1, queue="note")]
    monkeypatch.setattr(transaction, "on_commit", lambda *args, **options: pytest.fail("did it"))
    assert not signals.waiting.heard
    signals.waiting.tell_rows(rows)


# -- how the queues stand, in the log -------------------------------------------------------------


def test_a_busy_worker_says_how_its_queues_stand(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reporter = reporting.Reporter()

    def told() -> list[Any]:
        # Not what the bell's thread says of a Redis that is away.
        return [each for each in caplog.records if each.name == "notifications.statistics"]

    def lines() -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.INFO, "notifications.statistics"):
            reporter.report(["note"])
        return [each.getMessage() for each in told()]

    assert lines() == []  # nothing is going on
    row = ask()
    [line] = lines()
    assert line.startswith("queue=note waiting=1 active=0 delayed=0 completed=0 failed=0 dlq=0")
    [record] = told()
    assert (record.event, record.waiting) == ("queue_statistics", 1)
    assert len(lines()) == 1
    operations.cancel(row)
    assert [each.split()[1] for each in lines()] == ["waiting=0"]
    assert lines() == []  # nothing has changed
    Task.objects.create(name="orders.notifications.confirm", queue="default")
    assert not any("queue=default" in each for each in lines())  # it does not serve that
