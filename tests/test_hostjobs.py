"""Failed jobs of the host's own become dead letters, and can be retried and discarded as such."""

from __future__ import annotations

import os
from typing import Any

import django_rq
import pytest
from django.test import override_settings
from redis import Redis
from rq import SimpleWorker

from notifications import hostjobs, jobs, operations
from notifications.models import DeadLetter, State, Task

pytestmark = pytest.mark.django_db(transaction=True)

DONE: list[str] = []
FAILING = [True]


def deliver(parcel: str) -> None:
    """A job of the host's: it fails until FAILING says otherwise."""
    if FAILING[0]:
        raise ConnectionError(f"no way to {parcel}")
    DONE.append(parcel)


@pytest.fixture(autouse=True)
def host(redis: Redis) -> Any:
    DONE.clear()
    FAILING[0] = True
    url = os.environ["REDIS_URL"]
    with override_settings(RQ_QUEUES={name: {"URL": url} for name in ("default", "host")}):
        yield


def fail(*parcels: str) -> None:
    for parcel in parcels:
        django_rq.get_queue("host").enqueue(deliver, parcel)
    work()


def work() -> None:
    queue = django_rq.get_queue("host")
    SimpleWorker([queue], connection=queue.connection).work(burst=True)


def test_a_failed_job_becomes_a_dead_letter_without_its_arguments() -> None:
    fail("ann@example.com in Berlin")
    assert hostjobs.find() == 1
    letter = DeadLetter.objects.get()
    assert (letter.queue, letter.name) == ("host", "tests.test_hostjobs.deliver")
    assert letter.error == "ConnectionError"
    assert letter.reason == "ConnectionError: no way to <address> in Berlin"
    assert "in deliver" in letter.traceback
    assert "ann@" not in letter.traceback
    assert letter.task.state == State.DEAD


def test_it_is_found_once_and_again_when_it_failed_again() -> None:
    fail("Berlin", "Köln")
    assert [hostjobs.find(), hostjobs.find()] == [2, 0]
    letter = DeadLetter.objects.order_by("pk").first()
    operations.retry(letter.task)
    jobs.serve("default")
    work()
    assert hostjobs.find() == 1
    assert DeadLetter.objects.count() == 2


def test_retrying_runs_the_job_in_its_own_queue() -> None:
    fail("Berlin")
    hostjobs.find()
    FAILING[0] = False
    operations.retry_letters(DeadLetter.objects.all())
    jobs.serve("default")
    assert Task.objects.get().state == State.DONE
    work()
    assert DONE == ["Berlin"]
    assert hostjobs.find() == 0
    assert not DeadLetter.objects.exists()


def test_a_discarded_one_stays_away() -> None:
    fail("Berlin")
    hostjobs.find()
    operations.discard(DeadLetter.objects.get())
    assert hostjobs.find() == 0
    assert DONE == []


def test_a_job_that_is_gone_cannot_be_retried(redis: Redis, settings: Any) -> None:
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "RETRY": {"RETRIES": 0}}
    fail("Berlin")
    hostjobs.find()
    redis.delete("rq:failed:host")
    operations.retry_letters(DeadLetter.objects.all())
    jobs.serve("default")
    assert "is not among the failed ones of host any more" in DeadLetter.objects.get().reason


def test_what_cannot_be_read_is_a_dead_letter_too(redis: Redis) -> None:
    redis.zadd("rq:failed:host", {"expired": 1e10, "odd": 1e10, "torn": 1e10})
    redis.hset("rq:job:odd", "created_at", "2026-03-14T09:26:00Z")
    redis.hset("rq:job:torn", "description", "shop.make(1)")
    redis.xadd("rq:results:torn", {"exc_string": "no base64"})
    assert hostjobs.find() == 2
    assert {(each.name, each.error, each.reason) for each in DeadLetter.objects.all()} == {
        ("job", "", "it failed, and RQ keeps no reason"),
        ("shop.make", "", "it failed, and RQ keeps no reason"),
    }


def test_our_own_queues_and_a_lost_redis_are_left_alone(redis: Redis) -> None:
    redis.zadd("rq:failed:default", {"ours": 1e10})
    redis.hset("rq:job:ours", "description", "x()")
    assert hostjobs.find() == 0
    with override_settings(RQ_QUEUES={"host": {"URL": "redis://127.0.0.1:1/0"}}):
        assert hostjobs.find() == 0
