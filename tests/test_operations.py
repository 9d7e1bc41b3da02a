"""What people do to rows and queues, with its audit line."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.db import connection, connections, transaction
from django.db.models.functions import Now
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from notifications import holds, jobs, operations, outbox
from notifications.dispatch import notify
from notifications.errors import TooMany, WrongState
from notifications.models import (
    DeadLetter,
    Hold,
    Notification,
    Priority,
    SentTest,
    Stamp,
    State,
    Task,
)
from notifications.muting import muted
from notifications.outbox import Settlement
from tests.scripted import ACCEPTED, REFUSED, SETTINGS, Note, Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


@pytest.fixture
def ann() -> Any:
    return get_user_model().objects.create_user("ann")


def ask(to: str = "bob@example.com") -> Notification:
    with transaction.atomic():
        return notify(Note, to=to)[0]


def dead(script: Script) -> Notification:
    script.answer("bob@example.com", REFUSED)
    row = ask()
    jobs.serve("note")
    script.answer("bob@example.com", ACCEPTED)
    row.refresh_from_db()
    assert row.state == State.DEAD
    return row


def audit() -> list[str]:
    return list(LogEntry.objects.order_by("id").values_list("change_message", flat=True))


def test_a_retried_dead_row_is_sent_once_and_its_letter_is_gone(script: Script, ann: Any) -> None:
    row = dead(script)
    operations.retry(row, by=ann)
    jobs.serve("note")
    jobs.serve("note")
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.SENT, 1)
    assert not DeadLetter.objects.exists()
    assert len(script.sent) == 2  # the refused call, and the one after mending
    assert audit() == ["Retried."]


def test_a_discarded_letter_is_gone_and_never_sent(script: Script, ann: Any) -> None:
    row = dead(script)
    operations.discard(DeadLetter.objects.get(), by=ann)
    jobs.serve("note")
    row.refresh_from_db()
    assert (row.state, len(script.sent)) == (State.DEAD, 1)
    assert audit() == ["Discarded without sending: 550 no such user"]


@pytest.mark.parametrize("state", ["pending", "sent", "delivered", "done"])
def test_only_what_ended_unsent_can_be_retried(state: str) -> None:
    row = ask()
    Notification.objects.update(state=state)
    with pytest.raises(WrongState, match=state):
        operations.retry(row)


def test_a_row_under_way_cannot_be_cancelled() -> None:
    row = ask()
    Notification.objects.update(started=True, token=uuid.uuid4())
    with pytest.raises(WrongState, match="pending"):
        operations.cancel(row)


def test_many_are_done_together_and_the_wrong_ones_left_alone(script: Script, ann: Any) -> None:
    dead(script)
    ask("eve@example.com")
    assert operations.retry_rows(Notification.objects.all(), by=ann) == 1
    assert operations.cancel_rows(Notification.objects.all(), by=ann) == 2
    assert operations.retry_letters(DeadLetter.objects.all()) == 0


def test_letters_are_retried_and_discarded_together(script: Script) -> None:
    dead(script)
    assert operations.retry_letters(DeadLetter.objects.all()) == 1
    jobs.serve("note")
    dead(script)
    assert operations.discard_letters(DeadLetter.objects.all()) == 1


def test_a_pause_says_who_why_and_until_when(ann: Any) -> None:
    operations.pause("note", reason="moving house", duration=timedelta(hours=1), by=ann)
    held = Hold.objects.get()
    assert (held.name, held.reason, held.by) == ("note", "moving house", ann)
    assert held.until is not None
    operations.pause("note", reason="still moving", by=ann)
    held.refresh_from_db()
    assert (held.reason, held.until) == ("still moving", None)
    assert operations.resume("note", by=ann)
    assert not operations.resume("note", by=ann)
    assert audit() == ["Paused note. moving house", "Paused note. still moving", "Resumed note."]


def test_a_pause_ends_by_itself_at_its_time() -> None:
    operations.pause("note", duration=timedelta(hours=1))
    Hold.objects.update(until=Now() - timedelta(seconds=1))
    holds.forget()
    assert holds.current().stops("note") is None


def test_one_hold_is_lifted_from_the_list(ann: Any) -> None:
    holds.hold("kind", "test_note", reason="legal")
    assert operations.lift(Hold.objects.get(), by=ann)
    assert holds.current().kinds == {}
    assert len(audit()) == 1


def test_resuming_leaves_a_line_whatever_was_lifted(ann: Any) -> None:
    holds.hold("provider", "first", reason="bad key")
    assert operations.resume("note", by=ann)
    Notification.objects.filter(pk=ask().pk).update(due_at=outbox.PARKED)
    assert operations.resume("note", by=ann)
    lines = LogEntry.objects.values_list("object_repr", "change_message")
    assert list(lines) == [("note", "Resumed note.")] * 2


def test_lifting_what_was_lifted_long_ago_leaves_the_pause_of_now(ann: Any) -> None:
    operations.pause("note", reason="lunch")
    operations.resume("note")
    lunch = Hold.objects.get()
    operations.pause("note", reason="the printer burns")
    assert not operations.lift(lunch, by=ann)
    assert holds.current().stops("note") == "the printer burns"
    assert audit() == []


def test_lifting_an_old_hold_on_a_backlog_leaves_the_backlog_of_now(ann: Any) -> None:
    holds.hold("backlog", "note", reason="older than 3d", cause="age")
    assert operations.lift(Hold.objects.get(), by=ann)
    parked = ask()
    Notification.objects.update(due_at=outbox.PARKED)
    assert not operations.lift(Hold.objects.get(), by=ann)
    parked.refresh_from_db()
    assert parked.due_at == outbox.PARKED


def test_a_backlog_that_is_parked_while_a_person_resumes_does_not_wait_for_ever(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ask()
    Notification.objects.update(wanted_at=Now() - timedelta(days=4))
    settle, resumed = outbox.settle, []

    def settle_late(*args: Any) -> int:
        resumed.append(operations.resume("note"))
        return settle(*args)

    monkeypatch.setattr(outbox, "settle", settle_late)
    jobs.serve("note")
    monkeypatch.undo()
    row.refresh_from_db()
    assert (len(resumed), row.due_at) == (1, outbox.PARKED)
    assert Hold.objects.get(lifted_at=None).scope == "backlog"  # it can be seen
    assert operations.resume("note")
    jobs.serve("note")
    assert len(script.sent) == 1
    assert not operations.resume("note")


def test_what_is_parked_without_a_hold_is_let_go_all_the_same(script: Script) -> None:
    rows = [ask() for _ in range(3)]
    Notification.objects.update(due_at=outbox.PARKED)
    later = ask("eve@example.com")
    Notification.objects.filter(pk=later.pk).update(due_at=Now() + timedelta(days=1))
    assert operations.resume("note")
    jobs.serve("note")
    assert script.rows() == [row.pk for row in rows]


@pytest.mark.postgres_only
def test_who_resumes_while_rows_are_being_parked_waits_for_them() -> None:
    row = ask()
    holds.hold("backlog", "note", reason="older than 3d", cause="age")
    [claimed] = outbox.claim(Notification, "note", 1)
    resumed = []

    def resume() -> None:
        resumed.append(operations.resume("note"))
        connections.close_all()

    person = threading.Thread(target=resume)
    with transaction.atomic():
        outbox.settle([Settlement(claimed, State.PENDING, False, reason="too old")])
        person.start()
        person.join(0.5)
        assert resumed == []
    person.join(5)
    row.refresh_from_db()
    assert resumed == [True]
    assert row.due_at < outbox.PARKED


@pytest.mark.postgres_only
def test_what_is_parked_is_found_in_the_claims_index() -> None:
    with transaction.atomic():
        notify(Note, to=[f"{number}@example.com" for number in range(300)])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notifications_notification")
    with CaptureQueriesContext(connection) as queries:
        operations.resume("note")
    looks = [each["sql"] for each in queries if "9999" in each["sql"]]
    assert len(looks) == 2 * len(Priority)
    for sql in looks:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {sql}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "ntf_message_claim" in plan


def test_emptying_cancels_what_waits_and_nothing_else(ann: Any) -> None:
    waiting, flying = ask(), ask()
    Notification.objects.filter(pk=flying.pk).update(started=True, token=uuid.uuid4())
    assert operations.empty("note", by=ann) == 1
    waiting.refresh_from_db()
    flying.refresh_from_db()
    assert (waiting.state, flying.state) == (State.CANCELLED, State.PENDING)
    assert audit() == ["Emptied note: 1 rows cancelled."]


def test_cleaning_removes_what_ended_long_ago(ann: Any) -> None:
    old, young, waiting = ask(), ask(), ask()
    Notification.objects.filter(pk__in=[old.pk, young.pk]).update(
        state=State.SENT, settled_at=Now()
    )
    long_ago = Now() - timedelta(days=31)
    Notification.objects.filter(pk=old.pk).update(created_at=long_ago, settled_at=long_ago)
    task = Task.objects.create(name="x", queue="default", state=State.DONE)
    Task.objects.update(created_at=long_ago, settled_at=Now() - timedelta(days=3))
    assert operations.clean(dry_run=True).rows == 2
    assert operations.clean(by=ann).rows == 2
    assert set(Notification.objects.all()) == {young, waiting}
    assert not Task.objects.filter(pk=task.pk).exists()


def test_cleaning_takes_a_state_an_age_and_a_queue() -> None:
    row = ask()
    ago = Now() - timedelta(minutes=2)
    Notification.objects.update(state=State.SENT, created_at=ago, settled_at=ago)
    minute = timedelta(minutes=1)
    assert operations.clean(states=["dead"], older_than=minute).rows == 0
    assert operations.clean(states=["sent"], older_than=minute, queue="default").rows == 0
    assert operations.clean(states=["sent"], older_than=minute, queue="note").rows == 1
    assert not Notification.objects.filter(pk=row.pk).exists()


def test_what_waits_is_never_cleaned() -> None:
    with pytest.raises(WrongState, match="pending"):
        operations.clean(states=["pending"], older_than=timedelta(0))


def test_draining_delivers_without_redis(script: Script) -> None:
    for _ in range(3):
        ask()
    operations.drain("note")
    assert Notification.objects.filter(state=State.SENT).count() == 3
    assert operations.count_waiting("note") == 0


def test_draining_keeps_to_the_rate() -> None:
    with scripted(RATE="20/s") as script:
        for _ in range(6):
            ask()
        operations.drain("note")
        assert len(script.sent) == 6


def test_a_database_of_another_environment_mails_nobody_until_adopted(
    script: Script, ann: Any
) -> None:
    ask()
    Stamp.objects.update_or_create(pk=1, defaults={"environment": "production"})
    holds.forget()
    jobs.serve("note")
    assert script.sent == []
    assert "production" in str(holds.current().stops("note"))
    assert operations.adopt(by=ann) == "production"
    jobs.serve("note")
    assert len(script.sent) == 1
    assert audit() == ["Adopted from 'production'."]


def test_a_queue_goes_on_while_one_of_its_providers_is_held() -> None:
    with scripted(PROVIDERS=["first", "second"]):
        holds.hold("provider", "first", reason="bad key")
        assert holds.current().stops("note") is None
        holds.hold("provider", "second", reason="bad key")
        assert "all providers" in str(holds.current().stops("note"))


# -- tests to oneself -----------------------------------------------------------------------------


@pytest.fixture
def bob() -> Any:
    with muted():
        return get_user_model().objects.create_user("bob", "bob@example.com")


def try_to_test(by: Any) -> bool:
    """Whether one more test went out."""
    try:
        operations.send_own_test("note", by=by)
    except TooMany:
        return False
    finally:
        connections.close_all()
    return True


def test_tests_at_the_same_time_are_counted_one_after_the_other(bob: Any) -> None:
    twice = {**SETTINGS, "REST": {"TEST_RATE": "2/h"}}
    with override_settings(NOTIFICATIONS=twice), ThreadPoolExecutor(6) as pool:
        sent = list(pool.map(try_to_test, [bob] * 6))
    assert sent.count(True) == Notification.objects.count() == 2


def test_tests_count_for_as_long_as_the_rate_says_and_for_each_person(bob: Any, ann: Any) -> None:
    with muted():
        ann.email = "ann@example.com"
        ann.save()
    with override_settings(NOTIFICATIONS={**SETTINGS, "REST": {"TEST_RATE": "2/m"}}):
        assert [try_to_test(bob) for _ in range(3)] == [True, True, False]
        assert try_to_test(ann)
        SentTest.objects.filter(by=bob).update(sent_at=Now() - timedelta(seconds=61))
        assert try_to_test(bob)
    assert SentTest.objects.filter(by=bob).count() == 1
    with override_settings(NOTIFICATIONS={**SETTINGS, "REST": {"TEST_RATE": ""}}):
        assert all(try_to_test(bob) for _ in range(12))
