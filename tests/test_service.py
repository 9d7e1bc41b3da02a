"""One slice of serving: queues take turns, wait for rates side by side, and end in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from django.db import OperationalError, transaction
from django.test import override_settings
from redis import Redis

from notifications import jobs, rings, service
from notifications.dispatch import notify
from notifications.message import Outcome
from notifications.models import Notification, State, Task
from notifications.service import Service
from notifications.tasks import task
from notifications.testing.redis_server import RedisServer
from tests.scripted import ACCEPTED, Note, Script, scripted

LONG = 30.0  # seconds of a slice that ends by itself long before

pytestmark = pytest.mark.django_db(transaction=True)


DONE: list[str] = []  # in their order: "task" or "message"


@task(name="test.slowly")
def slowly() -> None:
    time.sleep(0.15)
    DONE.append("task")


@task(name="test.asks")
def asks(number: int) -> None:
    notify(Note, to=f"u{number}@example.com")


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


def send_slowly() -> Outcome:
    time.sleep(0.01)
    DONE.append("message")
    return ACCEPTED


def ask(count: int) -> None:
    with transaction.atomic():
        for n in range(count):
            notify(Note, to=f"u{n}@example.com")


def test_it_ends_when_nothing_can_proceed(script: Script) -> None:
    began = time.monotonic()
    Service(["default", "note"]).run(LONG)
    assert time.monotonic() - began < LONG / 2


def test_it_ends_when_the_slice_is_over_and_gives_back_the_rest(script: Script) -> None:
    for n in range(500):  # five at a time: ten seconds
        script.answer(f"u{n}@example.com", lambda: (time.sleep(0.1), ACCEPTED)[1])
    ask(500)
    began = time.monotonic()
    Service(["note"]).run(1.0)
    assert time.monotonic() - began < 8.0
    waiting = Notification.objects.filter(state=State.PENDING)
    assert 0 < waiting.count() < 500
    assert not waiting.exclude(token=None).exists()


def test_tasks_and_messages_take_turns(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "TURN", 0.1)
    for n in range(600):
        script.answer(f"u{n}@example.com", send_slowly)
    ask(600)
    with transaction.atomic():
        slowly.bulk_enqueue([{}] * 10)
    DONE.clear()
    Service(["default", "note"]).run(LONG)
    assert (DONE.count("task"), DONE.count("message")) == (10, 600)
    # A task is longer than its turn, so that no second one follows it while messages wait.
    mixed = DONE[: len(DONE) - DONE[::-1].index("message")]
    turns = [(first, then) for first, then in pairwise(mixed) if first != then]
    assert ("task", "task") not in pairwise(mixed)
    assert len(turns) >= 5


def test_what_tasks_ask_for_goes_out_in_the_same_slice(script: Script) -> None:
    with transaction.atomic():
        asks.bulk_enqueue({"number": n} for n in range(5))
    Service(["default", "note"]).run(LONG)
    assert Notification.objects.filter(state=State.SENT).count() == 5


@pytest.fixture
def heard(script: Script, redis: Redis, redis_server: RedisServer) -> Iterator[Callable[[], int]]:
    """How many rings wait for the queue of messages; the channel's Redis is a real one."""
    queues = {name: {"URL": redis_server.url} for name in ("default", "note")}
    with override_settings(RQ_QUEUES=queues):
        with transaction.atomic():
            asks.bulk_enqueue({"number": n} for n in range(2))
            asks.using(queue_name="host").enqueue(number=2)
        rings.flush(5)
        redis.flushall()

        def count() -> int:
            rings.flush(5)
            return int(redis.llen("rq:queue:note"))

        yield count


def test_what_its_own_tasks_ask_for_wakes_nobody_else(heard: Callable[[], int]) -> None:
    Service(["host", "note"]).run(LONG)
    assert Notification.objects.get().state == State.SENT
    assert heard() == 0


def test_others_may_begin_with_it_where_more_tasks_wait(heard: Callable[[], int]) -> None:
    Service(["default", "note"]).run(LONG)
    assert Notification.objects.filter(state=State.SENT).count() == 2
    assert heard() == 1


def test_a_queue_it_does_not_serve_is_rung_for(heard: Callable[[], int]) -> None:
    Service(["default"]).run(LONG)
    assert heard() == 1


def test_a_queue_that_waits_for_its_rate_does_not_hold_up_another(redis: Redis) -> None:
    with scripted(RATE="10/s") as script:
        ask(60)
        with transaction.atomic():
            asks.using(run_after=0.3).enqueue(number=99)  # comes while the queue waits
        began = time.monotonic()
        Service(["default", "note"], shared_rate=False).run(3.0)
        took = time.monotonic() - began
        assert Task.objects.get().state == State.DONE
        assert Notification.objects.filter(state=State.PENDING).exists(), "not all had gone out"
        assert 12 <= len(script.sent) <= 10 * took + 3


def test_a_job_function_never_raises(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(1)
    for error in (OperationalError("gone"), RuntimeError("a bug")):
        monkeypatch.setattr(
            Service, "run", lambda *_, problem=error: (_ for _ in ()).throw(problem)
        )
        jobs.serve("note")
        jobs.deliver("note", None)
    jobs.deliver("note", 10**9)
    jobs.deliver("no such channel", None)


def send_after_a_pause() -> tuple[int, int]:
    """How many went out at ten a second when the provider stalled at first, and in the busiest
    second."""
    with scripted(RATE="10/s", CONCURRENCY=5) as script:
        ask(40)
        began = time.monotonic()
        times: list[float] = []

        def slow_at_first() -> Outcome:
            times.append(time.monotonic())
            time.sleep(max(0.0, began + 1.5 - time.monotonic()))
            return ACCEPTED

        for n in range(40):
            script.answer(f"u{n}@example.com", slow_at_first)
        Service(["note"], shared_rate=False).run(2.7)
        Notification.objects.all().delete()
    return len(times), max(sum(0 <= each - start < 1.0 for each in times) for start in times)


def test_after_a_pause_of_the_provider_the_rate_still_holds(redis: Redis) -> None:
    """Other processes may hold messages up on their way, and then several come at once: they do
    not each time."""
    tries = (send_after_a_pause() for _ in range(5))
    assert any(sent >= 14 and busiest <= 11 for sent, busiest in tries)
