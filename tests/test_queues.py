"""How queues and workers stand."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.db.models.functions import Now
from django.test import override_settings
from django.utils import timezone
from rq import Worker

from notifications import holds, hostqueues, jobs, operations, queues, statistics, workers
from notifications.connections import quick_redis
from notifications.dispatch import notify
from notifications.models import DeadLetter, Notification, Task
from tests.scripted import REFUSED, Note, Script, scripted
from tests.servers import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


def ask(count: int = 1, **options: Any) -> list[Notification]:
    with transaction.atomic():
        return notify(Note, to=[f"{n}@example.com" for n in range(count)], **options)


def test_a_queue_says_what_waits_what_is_in_hand_and_what_comes_later() -> None:
    waits, claimed, started = ask(3)
    ask(delay=3600)
    token = {"token": uuid4(), "due_at": Now() + timedelta(seconds=20)}
    Notification.objects.filter(pk__in=[claimed.pk, started.pk]).update(**token)
    Notification.objects.filter(pk=waits.pk).update(due_at=Now() - timedelta(minutes=5))
    look = queues.look_at("note")
    assert (look.stats.waiting, look.stats.active, look.stats.delayed) == (1, 2, 1)
    assert 240 < look.stats.oldest < 360
    assert (look.carries, look.ours, look.limit) == ("note", True, None)
    with scripted(RATE="10/s"):
        assert queues.look_at("note").limit.limit == 10


def test_the_oldest_is_the_oldest_of_all_priorities() -> None:
    rows = ask(3)
    for priority, (row, minutes) in enumerate(zip(rows, (1, 9, 5), strict=True)):
        due = Now() - timedelta(minutes=minutes)
        Notification.objects.filter(pk=row.pk).update(priority=priority, due_at=due)
    assert queues.look_at("note").stats.oldest > 480


def test_what_is_done_in_a_minute_and_what_died(script: Script) -> None:
    script.answer("0@example.com", REFUSED)
    rows = ask(11)
    jobs.serve("note")
    look = queues.look_at("note")
    stats = look.stats
    assert (stats.waiting, stats.oldest, stats.dlq, look.per_minute) == (0, None, 1, 2.0)
    rows[1].attempt_set.update(created_at=Now() - timedelta(minutes=6))
    assert queues.look_at("note").per_minute == 1.8


def test_counting_stops_at_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MOST", 2)
    ask(5)
    assert statistics.say(queues.look_at("note").stats.waiting) == "2+"


def test_tasks_wait_in_queues_too() -> None:
    dead = Task.objects.create(name="x", queue="default")
    DeadLetter.objects.create(task=dead, name="x", queue="default", reason="r", attempts=1)
    look = queues.look_at("default")
    assert (look.carries, look.stats.waiting, look.stats.dlq) == ("tasks", 1, 1)


def test_every_hold_that_concerns_a_queue_is_told() -> None:
    for scope, name in [
        ("queue", "note"), ("queue", "default"), ("provider", "first"), ("provider", "second"),
        ("backlog", "note"), ("template", "note/test_note"), ("template", "sms/test_note"),
    ]:  # fmt: skip
        holds.hold(scope, name, reason="r")
    operations.pause("note", reason="wet", duration=timedelta(minutes=1))
    found = {(held.scope, held.name) for held in queues.look_at("note").holds}
    assert found == {
        ("queue", "note"),
        ("provider", "first"),
        ("backlog", "note"),
        ("template", "note/test_note"),
    }
    assert queues.look_at("note").paused.reason == "wet"
    assert [held.name for held in queues.look_at("default").holds] == ["default"]
    holds.hold("all", reason="stop")
    assert len(queues.look_at("default").holds) == 2
    assert queues.why_nothing_goes() == "stop"


def test_all_queues_are_told_the_hosts_own_by_their_jobs() -> None:
    by_name = {look.name: look for look in queues.look_at_all()}
    assert list(by_name) == ["default", "note", "host"]
    assert not by_name["host"].ours
    assert by_name["host"].stats.as_words()["waiting"] == "?"  # Redis is away
    with on_redis():
        redis = quick_redis("host")
        redis.rpush("rq:queue:host", "a", "b")
        redis.zadd("rq:wip:host", {"c": 1e10})
        redis.zadd("rq:scheduled:host", {"d": 1e10})
        redis.zadd("rq:deferred:host", {"e": 1})
        look = queues.look_at("host")
        assert look.stats.as_words()["waiting"] == "2"
        assert (look.stats.waiting, look.stats.active, look.stats.delayed) == (2, 1, 2)
        for name in ("queue", "wip", "scheduled", "deferred"):
            redis.delete(f"rq:{name}:host")
    with pytest.raises(KeyError):
        queues.look_at("gone")


def test_queues_of_a_redis_that_hangs_are_waited_for_once(redis_server: RedisServer) -> None:
    url = os.environ["REDIS_URL"]
    names = [f"host{number}" for number in range(9)]
    with override_settings(RQ_QUEUES={name: {"URL": url} for name in names}):
        assert len(hostqueues.count(names)) == 9
        redis_server.pause()
        began = time.monotonic()
        assert hostqueues.count(names) == {}
        assert time.monotonic() - began < 3
    with override_settings(RQ_QUEUES={"odd": {"DB": 0}}):
        assert hostqueues.count(["odd"]) == {}


def test_workers_tell_where_they_are_and_what_they_serve() -> None:
    with on_redis():
        redis = quick_redis("note")
        worker = Worker(["note", "host"], connection=redis, name="w1")
        worker.hostname = "web-1"
        worker.register_birth()
        worker.heartbeat()
        found = {look.name: look for look in workers.look_at_all()}["w1"]
        worker.register_death()
        redis.delete("rq:worker:w1")
    assert (found.host, found.pid, found.queues) == ("web-1", os.getpid(), ("note", "host"))
    assert timezone.now() - found.seen_at < timedelta(minutes=1)
    assert found.state


def on_redis() -> Any:
    return override_settings(
        RQ_QUEUES={name: {"URL": os.environ["REDIS_URL"]} for name in ("note", "host")}
    )
