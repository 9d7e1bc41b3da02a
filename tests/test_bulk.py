"""Many rows at once, in the background: frozen, in batches, with a canary, to be stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import connections, transaction
from django.db.models.functions import Now

from notifications import bulk, erasure, jobs, operations, tasks
from notifications.bulk import Verb
from notifications.dispatch import notify
from notifications.errors import NotYet, WrongState
from notifications.models import DeadLetter, Notification, State, Task
from notifications.muting import muted
from tests.scripted import ACCEPTED, LATER, REFUSED, Note, Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted(_RETRY={"RETRIES": 3, "BASE": 60.0, "JITTER": 0.0}) as running:
        yield running


@pytest.fixture
def ann() -> Any:
    with muted():
        return get_user_model().objects.create_user("ann")


def ask(*names: str) -> list[Notification]:
    with transaction.atomic():
        return notify(Note, to=[f"{name}@example.com" for name in names])


def kill(script: Script, *names: str) -> list[Notification]:
    for name in names:
        script.answer(f"{name}@example.com", REFUSED)
    rows = ask(*names)
    jobs.serve("note")
    for name in names:
        script.answer(f"{name}@example.com", ACCEPTED)
    assert DeadLetter.objects.filter(notification__in=rows).count() == len(names)
    return rows


def run(row: Task) -> Task:
    """Run one slice."""
    Task.objects.filter(pk=row.pk).update(due_at=Now())
    assert tasks.run_due("default")
    row.refresh_from_db()
    return row


def states() -> list[str]:
    return list(Notification.objects.order_by("pk").values_list("state", flat=True))


def test_what_was_frozen_is_retried_and_nothing_later(script: Script, ann: Any) -> None:
    kill(script, "a", "b", "c")
    frozen = bulk.freeze_letters(match={"code": "550"})
    kill(script, "later")
    row = run(bulk.start(Verb.RETRY, frozen, by=ann))
    assert states() == [State.PENDING] * 3 + [State.DEAD]
    assert (row.state, row.result) == (State.DONE, {"done": 3, "of": 3})
    jobs.serve("note")
    assert states() == [State.SENT] * 3 + [State.DEAD]
    told = list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))
    assert told == ["Asked for: retry 3 dead letters 550."] + ["Retried."] * 3


def test_what_a_program_asks_for_leaves_no_line(script: Script) -> None:
    kill(script, "a")
    row = run(bulk.start(Verb.RETRY, bulk.freeze_letters(), by=AnonymousUser()))
    assert (row.state, row.payload["by"]) == (State.DONE, None)
    assert not LogEntry.objects.exists()


def test_only_the_chosen_are_retried(script: Script) -> None:
    kill(script, "a", "b", "c")
    first, _second, third = DeadLetter.objects.order_by("pk")
    frozen = bulk.freeze_letters(ids=[third.pk, first.pk, 987654])
    assert frozen.count == 2
    run(bulk.start(Verb.RETRY, frozen))
    assert states() == [State.PENDING, State.DEAD, State.PENDING]


def test_dead_tasks_run_again() -> None:
    dead = Task.objects.create(name="shop.load", queue="documents", state=State.DEAD)
    DeadLetter.objects.create(task=dead, name=dead.name, reason="r", attempts=1)
    run(bulk.start(Verb.RETRY, bulk.freeze_letters(match={"name": "shop.load"})))
    dead.refresh_from_db()
    assert dead.state == State.PENDING
    assert not DeadLetter.objects.exists()


def test_discarding_removes_the_letters_and_sends_nothing(script: Script, ann: Any) -> None:
    kill(script, "a", "b")
    row = run(bulk.start(Verb.DISCARD, bulk.freeze_letters(), by=ann))
    assert not DeadLetter.objects.exists()
    assert states() == [State.DEAD] * 2
    assert row.result == {"done": 2, "of": 2}
    assert LogEntry.objects.filter(action_flag=3).count() == 2
    jobs.serve("note")
    assert len(script.sent) == 2


def test_a_row_that_arrived_meanwhile_is_left_alone(script: Script) -> None:
    kill(script, "a", "b")
    frozen = bulk.freeze_letters()
    Notification.objects.filter(to="a@example.com").update(state=State.DELIVERED)
    row = run(bulk.start(Verb.RETRY, frozen))
    assert states() == [State.DELIVERED, State.PENDING]
    assert row.result == {"done": 1, "of": 2}


@pytest.mark.postgres_only
def test_a_message_that_is_erased_meanwhile_is_not_retried(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    [row] = kill(script, "a")
    task = bulk.start(Verb.RETRY, bulk.freeze_letters())
    locked, go_on = threading.Event(), threading.Event()
    blank = erasure._blank

    def slowly(ids: Any) -> int:
        locked.set()
        assert go_on.wait(10)
        return blank(ids)

    def erase() -> None:
        erasure.erase_person(addresses=["a@example.com"])
        connections.close_all()

    def retry() -> None:
        tasks.run_due("default")
        connections.close_all()

    monkeypatch.setattr(erasure, "_blank", slowly)
    eraser, retrier = threading.Thread(target=erase), threading.Thread(target=retry)
    eraser.start()
    assert locked.wait(10)  # the letter is gone, and nobody else sees that yet
    retrier.start()
    retrier.join(0.5)
    go_on.set()
    eraser.join(10)
    retrier.join(10)
    row.refresh_from_db()
    task.refresh_from_db()
    assert (row.state, row.to) == (State.DEAD, "")
    assert (task.state, task.result) == (State.DONE, {"done": 0, "of": 1})


def test_others_have_their_turn_between_slices(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(script, "a", "b", "c")
    monkeypatch.setattr(bulk, "BATCH", 2)
    monkeypatch.setattr(bulk, "SLICE", -1.0)
    row = run(bulk.start(Verb.RETRY, bulk.freeze_letters()))
    assert (row.state, row.progress, row.result) == (State.PENDING, 66, {"done": 2, "of": 3})
    assert (row.attempts, row.token) == (0, None)
    run(row)
    assert run(row).result == {"done": 3, "of": 3}
    assert (row.state, states()) == (State.DONE, [State.PENDING] * 3)
    assert not row.attempt_set.filter(outcome="later").exists()


def test_the_others_follow_a_canary_that_arrived(script: Script) -> None:
    kill(script, "a", "b", "c")
    row = run(bulk.start(Verb.RETRY, bulk.freeze_letters(), canary=2))
    assert states() == [State.PENDING, State.PENDING, State.DEAD]
    assert run(row).state == State.PENDING  # nobody knows yet
    assert DeadLetter.objects.count() == 1
    jobs.serve("note")
    assert run(row).state == State.DONE
    assert row.result["done"] == 3
    assert states() == [State.SENT, State.SENT, State.PENDING]


@pytest.mark.parametrize("answer", [REFUSED, LATER])
def test_the_others_stay_when_a_canary_fails_again(script: Script, answer: Any) -> None:
    kill(script, "a", "b", "c")
    row = run(bulk.start(Verb.RETRY, bulk.freeze_letters(), canary=2))
    script.answer("b@example.com", answer)
    jobs.serve("note")
    assert run(row).state == State.DONE
    assert row.result["stopped"] == "1 of 2 sent first failed again"
    assert row.result["done"] == 2
    assert Notification.objects.get(to="c@example.com").state == State.DEAD


def test_the_others_stay_when_no_canary_goes_out(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(script, "a", "b")
    operations.pause("note")
    row = run(bulk.start(Verb.RETRY, bulk.freeze_letters(), canary=1))
    monkeypatch.setattr(bulk, "CANARY_PATIENCE", timedelta(0))
    assert run(row).state == State.DONE
    assert "have gone out in time" in row.result["stopped"]
    assert states() == [State.PENDING, State.DEAD]


def test_the_canaries_have_their_time_however_long_the_task_waited(script: Script) -> None:
    kill(script, "a", "b")
    operations.pause("note")
    row = bulk.start(Verb.RETRY, bulk.freeze_letters(), canary=1)
    Task.objects.update(created_at=Now() - timedelta(hours=1))
    for _look in range(2):
        assert run(row).state == State.PENDING
    operations.resume("note")
    jobs.serve("note")
    assert run(row).result["done"] == 2


def test_it_can_be_stopped_between_batches(script: Script, ann: Any) -> None:
    kill(script, "a", "b")
    row = bulk.start(Verb.RETRY, bulk.freeze_letters())
    bulk.stop(row, by=ann)
    row.refresh_from_db()
    assert row.state == State.CANCELLED
    assert not tasks.run_due("default")
    with pytest.raises(WrongState, match="cannot be stopped"):
        bulk.stop(row)


def test_a_batch_that_is_stopped_while_it_runs_is_undone(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(script, "a")
    row = bulk.start(Verb.RETRY, bulk.freeze_letters())
    retry = bulk._retry

    def stopped_meanwhile(*args: Any, **kwargs: Any) -> Any:
        bulk.stop(row)
        return retry(*args, **kwargs)

    monkeypatch.setattr(bulk, "_retry", stopped_meanwhile)
    assert tasks.run_due("default")
    assert states() == [State.DEAD]
    assert DeadLetter.objects.count() == 1


def test_emptying_cancels_what_waited_when_it_was_asked_for(ann: Any) -> None:
    ask("a", "b")
    frozen = bulk.freeze_queue("note")
    ask("later")
    row = run(bulk.start(Verb.EMPTY, frozen, by=ann))
    assert states() == [State.CANCELLED] * 2 + [State.PENDING]
    assert row.result == {"done": 2, "of": 2}
    last = LogEntry.objects.latest("pk")
    assert last.change_message == "Emptied note: 2 rows cancelled."


def test_emptying_the_queue_of_tasks_leaves_the_emptying_itself() -> None:
    waits = Task.objects.create(name="shop.load", queue="default", due_at=Now())
    row = bulk.start(Verb.EMPTY, bulk.freeze_queue("default"))
    while row.state == State.PENDING:
        tasks.run_due("default")
        row.refresh_from_db()
    waits.refresh_from_db()
    assert (row.state, waits.state) == (State.DONE, State.CANCELLED)


def test_cleaning_removes_old_ends_of_one_queue(ann: Any) -> None:
    old, new = ask("old", "new")
    Notification.objects.update(state=State.SENT, settled_at=Now())
    long_ago = Now() - timedelta(days=9)
    Notification.objects.filter(pk=old.pk).update(settled_at=long_ago, created_at=long_ago)
    age = timedelta(days=3)
    row = run(bulk.start_cleaning("note", states=["sent"], older_than=age, by=ann))
    assert row.result == {"rows": 1, "jobs": 0}
    assert Notification.objects.get() == new
    assert bulk.describe(row) == "clean note of sent"
    with pytest.raises(WrongState, match="Not ends: pending"):
        bulk.start_cleaning("note", states=["pending"], older_than=age, by=ann)


def test_what_makes_no_sense_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongState, match="nothing to do"):
        bulk.start(Verb.RETRY, bulk.freeze_letters())
    with pytest.raises(WrongState, match="by queue, name, error"):
        bulk.freeze_letters(match={"traceback": "x"})
    monkeypatch.setattr(bulk, "MOST_CHOSEN", 1)
    with pytest.raises(WrongState, match="by a filter only"):
        bulk.freeze_letters(ids=[1, 2])


def test_other_tasks_have_no_description() -> None:
    assert bulk.describe(Task(name="shop.load")) == ""


def test_a_task_that_is_put_off_loses_no_attempt() -> None:
    @tasks.task(name="tests.not_yet")
    def not_yet() -> None:
        raise NotYet(60.0, "the parcel is on its way" + " and on its way" * 50)

    with transaction.atomic():
        row = not_yet.enqueue()
    assert tasks.run_due("default")
    row.refresh_from_db()
    assert (row.state, row.attempts, row.started) == (State.PENDING, 0, False)
    assert row.reason.startswith("the parcel is on its way and")
    assert not tasks.run_due("default")
    assert not row.attempt_set.exists()
