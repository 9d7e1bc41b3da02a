"""New rows in one lean INSERT: the same as what the ORM writes."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from notifications.inserts import insert, insert_once
from notifications.models import Attempt, Notification, Priority, State, Task

pytestmark = pytest.mark.django_db


def rows(count: int = 1, **values: Any) -> list[Notification]:
    base: dict[str, Any] = {"queue": "email", "channel": "email", "to": "ann@example.com"}
    return [Notification(**{**base, **values}) for _ in range(count)]


def read(row: Notification) -> dict[str, Any]:
    return Notification.objects.filter(pk=row.pk).values().get()


def test_a_row_reads_back_as_it_was_made() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    [row] = rows(
        kind="order_confirmation",
        to="Zoë 'quoted' %s <b>@example.com",
        context={"text": '50 % of "it"', "list": [1, None, True, {"deep": 1.5}]},
        content=b"\x00\xff",
        event_id=uuid.uuid4(),
        priority=Priority.HIGH,
        state=State.PENDING,
        retry={"retries": 0},
        due_at=at,
    )
    insert([row], using="default")
    [twin] = Notification.objects.bulk_create([Notification(**values_of(row))])
    ours, orms = read(row), read(twin)
    for values in (ours, orms):
        values["content"] = bytes(values["content"])
        for name in ("id", "created_at", "wanted_at"):
            values.pop(name)
    assert ours == orms
    assert ours["due_at"] == at
    assert ours["context"] == row.context


def values_of(row: Notification) -> dict[str, Any]:
    kept = (f.attname for f in Notification._meta.concrete_fields if f.attname != "id")
    return {name: getattr(row, name) for name in kept}


def test_rows_have_their_keys_and_read_their_times_when_asked() -> None:
    made = rows(3)
    insert(made, using="default")
    assert len({row.pk for row in made}) == 3
    for row in made:
        assert row.due_at == row.wanted_at == row.created_at == read(row)["due_at"]
        assert row.due_at.tzinfo is not None
        assert not row._state.adding
        assert row._state.db == "default"


def test_times_may_be_expressions() -> None:
    soon, now = rows(2)
    soon.due_at = Now() + timedelta(hours=1)
    insert([soon, now], using="default")
    assert timedelta(minutes=59) < soon.due_at - now.due_at < timedelta(minutes=61)


def test_what_conflicts_is_left_out() -> None:
    first, second = rows(2, key="once")
    insert([first], using="default")
    insert([second], using="default", ignore_conflicts=True)
    assert second.pk is None
    assert list(Notification.objects.values_list("pk", flat=True)) == [first.pk]


def test_rows_that_are_there_come_back_in_their_places_and_others_are_inserted_at_once() -> None:
    unique = ("channel", "key", "to")
    [first] = insert_once(rows(1, key="once"), using="default", unique=unique)
    plain, *keyed = rows(1) + rows(3, key="once")
    keyed[0].to, keyed[2].to = "bob@example.com", "cy@example.com"
    with CaptureQueriesContext(connection) as queries:
        made = insert_once([*keyed, plain], using="default", unique=unique)
    assert len(queries.captured_queries) == 3
    assert [row.to for row in made] == [keyed[0].to, first.to, keyed[2].to, plain.to]
    assert made[1].pk == first.pk
    assert Notification.objects.count() == 4
    assert len({row.pk for row in made}) == 4


def test_nothing_to_insert_is_no_query() -> None:
    with CaptureQueriesContext(connection) as queries:
        insert([], using="default")
    assert not queries.captured_queries


def test_unfilled_rows_are_written() -> None:
    [row] = rows()
    insert([row], using="default")
    attempts = [Attempt(notification_id=row.pk, number=n, outcome="later") for n in (1, 2)]
    insert(attempts, using="default", filled=False)
    assert [attempt.pk for attempt in attempts] == [None, None]
    assert sorted(row.attempt_set.values_list("number", flat=True)) == [1, 2]


def test_more_rows_than_one_statement_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection.ops, "bulk_batch_size", lambda fields, objs: 2)
    tasks = [Task(queue="default", name=f"task {n}", payload={}) for n in range(5)]
    with CaptureQueriesContext(connection) as queries:
        insert(tasks, using="default")
    assert len(queries.captured_queries) == 3
    assert [task.name for task in Task.objects.order_by("pk")] == [f"task {n}" for n in range(5)]
    assert [task.pk for task in tasks] == sorted(task.pk for task in tasks)
