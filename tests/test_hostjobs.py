"""Failed jobs of the host's own become dead letters, and can be retried and discarded as such."""

from __future__ import annotations

import os
import pickle
import zlib
from base64 import b64encode
from typing import Any

import django_rq
import pytest
from django.test import override_settings
from redis import Redis
from rq import SimpleWorker

from notifications import hostjobs, jobs, operations
from notifications.models import DeadLetter, State, Task
from notifications.worker import SimpleWorker as OurWorker
from tests.probe.canary import Bomb

pytestmark = pytest.mark.django_db(transaction=True)

DONE: list[str] = []
FAILING = [True]


def deliver(parcel: str) -> None:
    """A job of the host's: it fails until FAILING says otherwise."""
    if FAILING[0]:
        try:
            raise LookupError(f"nobody is {parcel}\nwith the key sk_live_{parcel}")
        except LookupError as error:
            raise ConnectionError(f"no way to {parcel}") from error
    DONE.append(parcel)


@pytest.fixture(autouse=True)
def host(redis: Redis) -> Any:
    DONE.clear()
    hostjobs._cursors.clear()
    FAILING[0] = True
    url = os.environ["REDIS_URL"]
    with override_settings(RQ_QUEUES={name: {"URL": url} for name in ("default", "host")}):
        yield
    jobs.set_queues(())  # a worker of ours has told this process which it serves


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
    assert "\nLookupError\nThe above exception" in letter.traceback
    assert letter.traceback.endswith(f"\n{letter.reason}")
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
    assert "is not among the failed ones" in DeadLetter.objects.get().reason


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


def leave(redis: Redis, queue: str, *names: str, expires: float = 1e10) -> None:
    """Failed jobs, as RQ leaves them."""
    for place, name in enumerate(names):
        redis.zadd(f"rq:failed:{queue}", {name: expires + place})
        redis.hset(
            f"rq:job:{name}",
            mapping={"description": f"shop.make({place})", "ended_at": "2026-03-14T09:26:00Z"},
        )


def test_every_failed_job_is_found_however_many_there_are(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostjobs, "PAGE", 50)
    monkeypatch.setattr(hostjobs, "MOST", 50)
    leave(redis, "host", *(f"job-{number}" for number in range(400)))
    leave(redis, "host", "short", expires=1e9)  # its failure is kept for less time than the others'
    leave(redis, "host", "never", expires=-1)
    looks = [hostjobs.find() for _look in range(40)]
    assert sum(looks) == DeadLetter.objects.count() == 402
    assert max(looks) < 300  # the clock has more to do
    assert looks[-5:] == [0] * 5
    leave(redis, "host", "late", expires=1e9)
    assert sum(hostjobs.find() for _look in range(10)) == 1


def test_what_is_found_is_not_read_again_and_stays_found_when_its_row_is_gone(
    redis: Redis, django_assert_num_queries: Any
) -> None:
    fail("Berlin")
    assert hostjobs.find() == 1
    Task.objects.all().delete()  # by RETENTION, while RQ keeps the job for a year
    with django_assert_num_queries(0):
        assert hostjobs.find() == 0
    assert not DeadLetter.objects.exists()
    redis.delete(*redis.keys("rq:job:*"))
    hostjobs._mark([hostjobs._Failure("gone", "", "", known=False)], redis)
    assert not redis.exists("rq:job:gone")


def test_a_job_whose_worker_died_twice_is_found_twice(redis: Redis) -> None:
    """RQ's clean-up tells no time at which it ended."""
    redis.zadd("rq:failed:host", {"lost": 1e10})
    for began in ("2026-03-14T09:26:00Z", "2026-03-14T09:36:00Z"):
        job = {"description": "shop.make()", "created_at": "2026-03-14T09:00:00Z", "ended_at": ""}
        redis.hset("rq:job:lost", mapping={**job, "started_at": began})
        assert [hostjobs.find(), hostjobs.find()] == [1, 0]


def test_ids_that_no_database_takes_hold_up_nothing(redis: Redis) -> None:
    leave(redis, "host", "nul\0", "x" * 500, "good")
    redis.hset("rq:job:good", mapping={"description": "shop.\0make()", "ended_at": "\0"})
    assert [hostjobs.find(), hostjobs.find()] == [1, 0]
    assert DeadLetter.objects.get().name == "shop.?make"


@pytest.mark.parametrize("parcel", ["Berlin", "B" * 20_000])
def test_a_job_on_a_queue_of_ours_is_refused_and_a_dead_letter_that_says_what_to_do(
    parcel: str, redis: Redis, settings: Any
) -> None:
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "RETRY": {"RETRIES": 0}}
    FAILING[0] = False
    django_rq.get_queue("default").enqueue(deliver, parcel)
    worker = OurWorker(["default"], connection=django_rq.get_connection("default"))
    worker.work(burst=True)
    assert [hostjobs.find(), hostjobs.find()] == [1, 0]
    letter = DeadLetter.objects.get()
    assert (letter.queue, letter.name) == ("default", "tests.test_hostjobs.deliver")
    assert letter.error == "JobRefused"
    assert "Enqueue it again, to a queue of its own" in letter.reason
    assert parcel not in str(DeadLetter.objects.values()) + str(Task.objects.values())
    operations.retry(letter.task)
    jobs.serve("default")
    worker.work(burst=True)
    assert DONE == []
    assert "Enqueue it again, to a queue of its own" in DeadLetter.objects.get().reason


def test_nothing_of_an_untrusted_job_is_read_but_its_functions_name(redis: Redis) -> None:
    leave(redis, "default", "odd", "ours", "bomb")
    redis.hset("rq:job:odd", "description", "<b>ann@example.com</b>(1)")
    redis.hset("rq:job:ours", "description", "notifications.jobs.deliver_email(17)")
    redis.hset("rq:job:bomb", "data", pickle.dumps(Bomb("a dead letter")))
    redis.xadd("rq:results:bomb", {"exc_string": b64encode(zlib.compress(b"x" * 10_000_000))})
    assert hostjobs.find() == 2  # the row of a message that was being sent is due all the same
    assert {each.name for each in DeadLetter.objects.all()} == {"job", "shop.make"}
    assert {each.traceback for each in DeadLetter.objects.all()} == {""}


def test_a_lost_redis_is_left_alone() -> None:
    with override_settings(RQ_QUEUES={"host": {"URL": "redis://127.0.0.1:1/0"}}):
        assert hostjobs.find() == 0
