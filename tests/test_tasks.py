"""Durable calls: enqueued, run once, tried again, scheduled."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from notifications import jobs, tasks
from notifications.errors import InvalidPayload, KeyReused
from notifications.models import (
    Attempt,
    DeadLetter,
    Notification,
    Priority,
    Schedule,
    State,
    Task,
)
from notifications.retries import RetryPolicy
from notifications.tasks import current_task, set_progress, task
from tests.scripted import scripted

pytestmark = pytest.mark.django_db(transaction=True)


@task(name="test.add")
def add(a: int, b: int) -> int:
    return a + b


@task(name="test.write_and_fail", retry=RetryPolicy(retries=1, base=0))
def write_and_fail() -> None:
    Group.objects.create(name="half done")
    raise RuntimeError("no")


@task(name="test.steps", atomic=False)
def steps() -> None:
    set_progress(40)
    row = current_task()
    assert row is not None
    SEEN.append(Task.objects.get(pk=row.pk).progress)


@task(name="test.atomic_progress")
def atomic_progress() -> None:
    set_progress(10)


@task(name="test.sleeper", timeout=0.2, retry=RetryPolicy(retries=0))
def sleeper() -> None:
    time.sleep(5)


@task(name="test.forgiver", timeout=0.2, retry=RetryPolicy(retries=0))
def forgiver() -> None:
    until = time.monotonic() + 3
    while time.monotonic() < until:
        try:
            time.sleep(0.05)
        except Exception:
            continue


@task(name="test.object")
def give_object() -> object:
    return object()


@task(name="test.hourly", schedule="0 * * * *")
def hourly() -> None:
    SEEN.append(60)


@task(name="test.often", schedule=timedelta(minutes=5))
def often() -> None:
    SEEN.append(5)


SEEN: list[int] = []


@pytest.fixture(autouse=True)
def settings_of_the_test() -> Iterator[None]:
    SEEN.clear()
    with scripted():
        yield


def enqueue(function: tasks.TaskFunction, **payload: object) -> Task:
    with transaction.atomic():
        return function.enqueue(**payload)


def test_a_call_is_run_and_keeps_its_result() -> None:
    row = enqueue(add, a=2, b=3)
    jobs.serve("default")
    row.refresh_from_db()
    assert (row.state, row.result, row.progress, row.attempts) == (State.DONE, 5, 100, 1)
    assert Attempt.objects.get().outcome == "done"


def test_a_task_is_still_a_plain_function() -> None:
    assert add(1, 2) == 3


def test_what_a_failing_task_wrote_is_taken_back() -> None:
    enqueue(write_and_fail)
    jobs.serve("default")
    row = Task.objects.get()
    assert (row.state, row.attempts) == (State.DEAD, 2)
    assert not Group.objects.exists()
    assert DeadLetter.objects.get().error == "RuntimeError"


def test_progress_is_seen_while_a_task_runs() -> None:
    enqueue(steps)
    jobs.serve("default")
    assert SEEN == [40]
    assert Task.objects.get().progress == 100


def test_progress_inside_a_transaction_is_refused_with_the_reason() -> None:
    enqueue(atomic_progress)
    tasks.run_due("default")
    assert "atomic=False" in Task.objects.get().reason


def test_progress_outside_a_task_says_nothing() -> None:
    set_progress(10)
    assert current_task() is None


def test_a_task_that_takes_too_long_is_ended() -> None:
    enqueue(sleeper)
    began = time.monotonic()
    jobs.serve("default")
    assert time.monotonic() - began < 3
    assert DeadLetter.objects.get().error == "TaskTimeout"


def test_a_task_that_forgives_whatever_goes_wrong_is_ended_too() -> None:
    row = enqueue(forgiver)
    began = time.monotonic()
    jobs.serve("default")
    assert time.monotonic() - began < 1.2
    row.refresh_from_db()
    assert (row.state, row.reason) == (
        State.DEAD,
        "TaskTimeout: the task ran longer than 0.2 s (attempt 1 of 1)",
    )


def test_a_result_that_is_no_plain_value_is_an_error_of_the_task() -> None:
    enqueue(give_object)
    tasks.run_due("default")
    assert "plain values" in Task.objects.get().reason


def test_a_task_unknown_here_is_given_back_without_an_attempt() -> None:
    Task.objects.create(name="from.the.next.release", queue="default")
    jobs.serve("default")
    row = Task.objects.annotate(now=Now()).get()
    assert (row.state, row.attempts) == (State.PENDING, 0)
    assert row.due_at > row.now + timedelta(seconds=20)


def test_a_task_whose_worker_died_goes_again_and_counts_the_attempt() -> None:
    row = enqueue(add, a=1, b=1)
    Task.objects.update(token=uuid.uuid4(), started=True)
    jobs.serve("default")
    row.refresh_from_db()
    assert (row.state, row.attempts, row.lapses) == (State.DONE, 2, 1)


def test_a_task_that_kills_its_worker_every_time_ends_as_a_dead_letter() -> None:
    row = enqueue(add, a=1, b=1)
    for _ in range(4):
        Task.objects.update(token=uuid.uuid4(), started=True)
        tasks.run_due("default")
    row.refresh_from_db()
    assert (row.state, DeadLetter.objects.get().code) == (State.DEAD, "lease_lost")


def test_a_task_that_lost_its_lease_keeps_nothing() -> None:
    @task(name="test.robbed")
    def robbed() -> None:
        Group.objects.create(name="twice")
        Task.objects.update(token=uuid.uuid4())

    enqueue(robbed)
    tasks.run_due("default")
    assert not Group.objects.exists()
    assert Task.objects.get().state == State.PENDING


def test_a_call_can_be_put_off_and_keyed() -> None:
    later = add.using(run_after=timedelta(minutes=1), key="once", priority=Priority.LOW)
    first, second = enqueue(later, a=1, b=1), enqueue(later, a=1, b=1)
    assert first.pk == second.pk
    jobs.serve("default")
    row = Task.objects.get()
    assert (row.state, row.priority) == (State.PENDING, Priority.LOW)


@pytest.mark.parametrize("number", [-1, 4])
def test_a_priority_that_is_none_is_refused_by_name_and_by_the_database(number: int) -> None:
    with pytest.raises(ValueError, match="is no priority"):
        add.using(priority=number)
    with pytest.raises(IntegrityError), transaction.atomic():
        Task.objects.create(name=add.name, queue="default", priority=number)
    with pytest.raises(IntegrityError), transaction.atomic():
        Notification.objects.create(channel="note", queue="note", to="a@b", priority=number)


def test_a_key_with_other_arguments_is_refused_and_nothing_is_written() -> None:
    once = add.using(key="once")
    with transaction.atomic():
        row = once.enqueue(a=1, b=[2, 3])
        assert once.enqueue(a=1, b=(2, 3)).pk == row.pk
        with pytest.raises(KeyReused, match=r"'once'.*test\.add #\d+ with other arguments"):
            once.enqueue(a=2, b=[2, 3])
        with pytest.raises(KeyReused):
            add.using(key="other").bulk_enqueue([{"a": 1, "b": 1}, {"a": 2, "b": 2}])
    assert Task.objects.get().pk == row.pk


def test_many_calls_are_one_statement() -> None:
    with transaction.atomic():
        rows = add.bulk_enqueue({"a": n, "b": n} for n in range(5))
    jobs.serve("default")
    assert [row.result for row in Task.objects.order_by("pk")] == [0, 2, 4, 6, 8]
    assert len(rows) == 5


def test_arguments_must_be_plain_values() -> None:
    with pytest.raises(InvalidPayload, match=r"payload of test\.add"):
        enqueue(add, a=object(), b=1)


def test_what_no_database_stores_is_refused_and_the_callers_transaction_goes_on() -> None:
    deep: list[object] = []
    for _each in range(5000):
        deep = [deep]
    with transaction.atomic():
        for text in ("a\0b", "\ud83d", "\\\0", deep):
            with pytest.raises(InvalidPayload):
                add.enqueue(a=text, b=1)
        Group.objects.create(name="the order")
    assert Group.objects.exists()


@pytest.mark.parametrize("text", [r"C:\u0000", r"\\u0000", "🍵 Tee\n\x7f", "\u2028", ""])
def test_what_only_looks_so_is_stored_as_it_is(text: str) -> None:
    row = enqueue(add, a=text, b=text)
    row.refresh_from_db()
    assert row.payload == {"a": text, "b": text}


def test_a_slot_of_a_schedule_becomes_one_task_however_many_clocks_tick() -> None:
    tasks.tick_schedules()
    assert not Task.objects.exists()  # a schedule starts with its next slot
    Schedule.objects.update(last_slot=Now() - timedelta(hours=2))
    for _ in range(3):
        tasks.tick_schedules()
    ours = Task.objects.filter(name__startswith="test.").order_by("name")
    assert [each.name for each in ours] == ["test.hourly", "test.often"]
    jobs.serve("default")
    assert sorted(SEEN) == [5, 60]


def test_a_schedule_that_is_no_crontab_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="crontab"):
        task(name="test.never", schedule="every now and then")


def test_tasks_can_be_listed() -> None:
    assert tasks.all_tasks()["test.add"] is add


@task(name="test.sleep_in_the_database", timeout=0.3, retry=RetryPolicy(retries=0))
def sleep_in_the_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(1.5)")


@pytest.mark.postgres_only
def test_a_task_that_runs_too_long_inside_a_query_is_ended_and_settled() -> None:
    with transaction.atomic():
        row = sleep_in_the_database.enqueue()
    began = time.monotonic()
    jobs.serve("default")
    assert time.monotonic() - began < 1.4
    row.refresh_from_db()
    assert row.state == State.DEAD
    assert row.reason.startswith("TaskTimeout: the task ran longer than 0.3 s")
    with connection.cursor() as cursor:  # the server notices at the end of its query
        asleep = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s"
        cursor.execute(asleep, ["SELECT pg_sleep%"])
        while cursor.fetchone():
            time.sleep(0.05)
            cursor.execute(asleep, ["SELECT pg_sleep%"])
