"""Claim, start, settle, release: who has a row, and who only thinks so."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from notifications import outbox
from notifications.dispatch import notify
from notifications.models import Attempt, DeadLetter, Notification, Priority, State, Task
from notifications.models.work import TRANSITIONS, may_move
from notifications.outbox import DeadLetterDraft, Settlement
from tests.scripted import Note, scripted

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def settings_of_the_test() -> Iterator[None]:
    with scripted():
        yield


def ask(count: int = 1, **options: object) -> list[Notification]:
    with transaction.atomic():
        return [notify(Note, to="ann@example.com", **options)[0] for _ in range(count)]  # type: ignore[arg-type]


def claim(limit: int = 10) -> list[Notification]:
    return outbox.claim(Notification, "note", limit)


def test_urgent_rows_come_first_then_the_oldest() -> None:
    [low] = ask(priority=Priority.LOW)
    [first, second] = ask(2)
    [critical] = ask(priority=Priority.CRITICAL)
    assert [row.pk for row in claim()] == [critical.pk, first.pk, second.pk, low.pk]


def test_a_claim_takes_no_more_than_its_limit_and_the_urgent_ones() -> None:
    ask(3, priority=Priority.LOW)
    [critical] = ask(priority=Priority.CRITICAL)
    assert [row.pk for row in claim(1)] == [critical.pk]


def test_a_claimed_row_belongs_to_one_until_its_lease_ends() -> None:
    ask()
    [row] = claim()
    assert claim() == []
    assert row.token is not None
    assert timedelta(seconds=25) < row.due_at - row.created_at <= timedelta(seconds=35)
    Notification.objects.update(due_at=Now())
    [again] = claim()
    assert again.token != row.token


def test_what_is_scheduled_is_not_claimed_before_its_time() -> None:
    ask(delay=60)
    assert claim() == []


def test_rows_of_another_queue_are_left_alone() -> None:
    ask()
    assert outbox.claim(Notification, "email", 10) == []


def test_who_lost_its_row_settles_nothing_but_leaves_its_attempt() -> None:
    ask()
    [slow] = claim()
    Notification.objects.update(due_at=Now())
    [quick] = claim()
    note = Attempt(notification=slow, number=1, outcome="accepted")
    assert outbox.settle([Settlement(slow, State.SENT)], [note]) == 0
    assert Notification.objects.get().state == State.PENDING
    assert Attempt.objects.count() == 1
    assert outbox.settle([Settlement(quick, State.SENT)]) == 1
    assert Notification.objects.get().state == State.SENT


def test_who_lost_its_row_buries_nothing() -> None:
    ask()
    [slow] = claim()
    Notification.objects.update(token=uuid.uuid4())
    outbox.settle([Settlement(slow, State.DEAD, dead=DeadLetterDraft("gone"))])
    assert not DeadLetter.objects.exists()


def test_only_rows_that_are_still_ours_are_started() -> None:
    ask(3)
    rows = claim()
    Notification.objects.filter(pk=rows[1].pk).update(token=uuid.uuid4())
    assert [row.pk for row in outbox.start(rows)] == [rows[0].pk, rows[2].pk]
    assert outbox.start([]) == []


def test_released_rows_are_due_again_untouched() -> None:
    ask()
    outbox.release(claim())
    row = Notification.objects.get()
    assert (row.token, row.attempts, row.started) == (None, 0, False)
    assert len(claim()) == 1


@pytest.mark.parametrize("reason", ["x" * 301, "x\0y", "half a pair: \ud800"])
def test_a_reason_that_no_column_takes_is_made_to_fit(reason: str) -> None:
    given_back, parked, dead = ask(3)
    one, two, three = claim()
    outbox.release([one], reason=reason)
    draft = DeadLetterDraft(reason)
    outbox.settle(
        [
            Settlement(two, State.PENDING, False, after=9.0, reason=reason),
            Settlement(three, State.DEAD, reason=reason, dead=draft),
        ]
    )
    told = {DeadLetter.objects.get(notification=dead).reason}
    for row in (given_back, parked, dead):
        row.refresh_from_db()
        told.add(row.reason)
    [kept] = told
    assert kept.startswith(reason[:1])
    assert len(kept) <= outbox.LONGEST_REASON


def test_alike_outcomes_are_settled_by_one_update() -> None:
    ask(20)
    rows = claim(20)
    with CaptureQueriesContext(connection) as queries:
        outbox.settle([Settlement(row, State.SENT) for row in rows])
    assert sum(each["sql"].startswith("UPDATE") for each in queries) == 1
    assert Notification.objects.filter(state=State.SENT).count() == 20


def test_the_row_waited_for_by_id_is_claimed_though_it_is_not_due() -> None:
    [row] = ask(delay=60)
    claimed = outbox.claim_one(Notification, row.pk)
    assert claimed is not None
    assert outbox.claim_one(Notification, row.pk) is None


def test_due_queues_are_those_with_something_to_do() -> None:
    assert outbox.due_queues(["note", "default"]) == []
    ask()
    with transaction.atomic():
        Task.objects.create(name="x", queue="default")
    assert outbox.due_queues(["note", "default"]) == ["note", "default"]
    claim()
    assert outbox.due_queues(["note", "default"]) == ["default"]


def test_the_claim_reads_its_index_and_nothing_else() -> None:
    ask()
    with CaptureQueriesContext(connection) as queries:
        claim()
    [sql] = [each["sql"] for each in queries if "RETURNING" in each["sql"]]
    explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET enable_seqscan = off")
        cursor.execute(explain + sql)
        plan = "\n".join(str(line) for line in cursor.fetchall())
        if connection.vendor == "postgresql":
            cursor.execute("RESET enable_seqscan")
    assert "ntf_message_claim" in plan


@pytest.mark.postgres_only
def test_what_is_scheduled_ahead_is_not_searched_for_what_is_due() -> None:
    """PostgreSQL counts on finding priority and time together as often as each on its own."""
    [row] = ask(delay=timedelta(days=1))
    names = [field.column for field in Notification._meta.concrete_fields if field.name != "id"]
    columns = ", ".join(connection.ops.quote_name(name) for name in names)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO notifications_notification ({columns}) SELECT {columns}"
            " FROM notifications_notification, generate_series(1, 10000) WHERE id = %s",
            [row.pk],
        )
        cursor.execute(
            "UPDATE notifications_notification SET priority = %s, due_at = now() WHERE id %% 2 = 0",
            [Priority.LOW],
        )
        cursor.execute("ANALYZE notifications_notification")
    with CaptureQueriesContext(connection) as queries:
        assert outbox.due_queues(["note"]) == ["note"]
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + queries[-1]["sql"])
        plan = "\n".join(str(line) for line in cursor.fetchall())
    assert plan.count("ntf_message_claim") == len(Priority)
    assert "Seq Scan" not in plan


def test_every_state_says_where_it_may_go() -> None:
    assert set(TRANSITIONS) == set(State)
    assert may_move("pending", "sent")
    assert not may_move("done", "pending")
    assert not may_move("complained", "sent")


def test_a_fingerprint_is_the_same_for_the_same_failure() -> None:
    assert outbox.fingerprint("k", "E", "1") == outbox.fingerprint("k", "E", "1")
    assert outbox.fingerprint("k", "E", "1") != outbox.fingerprint("k", "E", "2")
