"""The clock: what is due is rung, whoever died, however many clocks run, whatever their time."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connections, transaction
from redis import Redis

from notifications import clock, holds, receipts, rings, tasks
from notifications.models import Hold, State, Task
from notifications.tasks import task
from notifications.testing.redis_server import RedisServer
from tests.probe.notifications import leave
from tests.servers import PostgresServer
from tests.workers import CommandProcess, WorkerProcess, is_alive, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace"
    path.touch()
    return path


@pytest.fixture
def settled() -> Iterator[None]:
    """Nothing is rung by what the test itself enqueues."""
    holds.forget()
    yield
    holds.forget()


def lines(trace: Path) -> list[str]:
    return trace.read_text().splitlines()


def ran_at(trace: Path) -> list[float]:
    """When each task ran, by the clock that all processes of a machine share."""
    return [float(line.split()[-1]) for line in lines(trace)]


def enqueue(trace: Path, redis: Redis, *, in_seconds: float = 0) -> Task:
    """A row whose own ring is lost."""
    with transaction.atomic():
        row: Task = leave.using(run_after=timedelta(seconds=in_seconds)).enqueue(trace=str(trace))
    rings.flush(5)
    redis.delete("rq:queue:default")
    return row


def waiting(redis: Redis, queue: str = "default") -> int:
    return int(redis.llen(f"rq:queue:{queue}"))


# -- one tick -----------------------------------------------------------------------------------


def test_rings_the_queues_with_due_rows_and_no_others(
    trace: Path, redis: Redis, settled: None
) -> None:
    enqueue(trace, redis)
    assert clock.tick(clock.own_queues()) == ["default"]
    assert waiting(redis) == 1
    assert [waiting(redis, name) for name in ("email", "documents", "maintenance")] == [0, 0, 0]


def test_rings_nothing_when_nothing_is_due(trace: Path, redis: Redis, settled: None) -> None:
    enqueue(trace, redis, in_seconds=60)
    assert clock.tick(clock.own_queues()) == []
    assert waiting(redis) == 0


def test_a_ring_that_waits_is_enough(trace: Path, redis: Redis, settled: None) -> None:
    enqueue(trace, redis)
    for _ in range(3):
        clock.tick(["default"])
    assert waiting(redis) == 1


def test_a_held_queue_is_not_rung(trace: Path, redis: Redis, settled: None) -> None:
    enqueue(trace, redis)
    holds.hold(Hold.Scope.QUEUE, "default", reason="a pause")
    assert clock.tick(["default"]) == []
    assert waiting(redis) == 0
    holds.lift(Hold.Scope.QUEUE, "default")
    assert clock.tick(["default"]) == ["default"]


def test_a_chore_that_fails_for_ever_keeps_nothing_from_being_rung(
    trace: Path, redis: Redis, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise IntegrityError("a receipt that nobody can apply")

    done: list[bool] = []
    monkeypatch.setattr(tasks, "tick_schedules", fail)
    monkeypatch.setattr(receipts, "sweep", lambda: done.append(True))
    enqueue(trace, redis)
    with pytest.raises(IntegrityError, match="nobody"):
        clock.tick(["default"])
    assert (waiting(redis), done) == (1, [True])


def test_its_queues_are_the_apps_own(settings: Any) -> None:
    settings.RQ_QUEUES = {**settings.RQ_QUEUES, "host": {"URL": "redis://127.0.0.1:1/0"}}
    assert set(clock.own_queues()) == {"email", "default", "documents", "maintenance"}


# -- outages ------------------------------------------------------------------------------------


@pytest.fixture
def quick_clock(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CLOCK": 0.05}
    monkeypatch.setattr(clock, "LONGEST_PAUSE", 0.2)


def run_ticks(
    monkeypatch: pytest.MonkeyPatch, count: int, before: Mapping[int, Callable[[], Any]]
) -> None:
    """Run the clock for `count` ticks; `before[n]` is called first thing in the nth."""
    ticked = 0
    tick_once = clock.tick

    def tick(queues: Sequence[str]) -> list[str]:
        nonlocal ticked
        ticked += 1
        before.get(ticked, lambda: None)()
        return tick_once(queues)

    monkeypatch.setattr(clock, "tick", tick)
    clock.run(["default"], stopping=lambda: ticked >= count)


def test_outlives_a_redis_that_goes_away(
    trace: Path,
    redis: Redis,
    redis_server: RedisServer,
    quick_clock: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enqueue(trace, redis)
    run_ticks(monkeypatch, 5, {1: redis_server.stop, 4: redis_server.start})
    assert waiting(redis) == 1


@pytest.mark.postgres_only
def test_outlives_a_database_that_goes_away(
    trace: Path,
    redis: Redis,
    postgres_server: PostgresServer,
    quick_clock: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enqueue(trace, redis)
    run_ticks(
        monkeypatch,
        7,
        {
            2: lambda: (redis.delete("rq:queue:default"), postgres_server.restart()),
            3: postgres_server.stop,
            5: postgres_server.start,
        },
    )
    assert waiting(redis) == 1


def test_outlives_a_mistake_of_its_own(
    redis: Redis, quick_clock: None, monkeypatch: pytest.MonkeyPatch, trace: Path
) -> None:
    enqueue(trace, redis)

    def fail() -> None:
        raise ValueError("a mistake")

    run_ticks(monkeypatch, 2, {1: fail})
    assert waiting(redis) == 1


def test_keeps_its_connection_from_tick_to_tick(
    quick_clock: None, monkeypatch: pytest.MonkeyPatch, redis: Redis
) -> None:
    seen: list[Any] = []

    def look() -> None:
        seen.append(connections["default"].connection)

    run_ticks(monkeypatch, 3, {1: look, 2: look, 3: look})
    assert seen[1] is not None
    assert seen[1] is seen[2]


# -- as a child of a worker ---------------------------------------------------------------------


def test_a_killed_clock_is_replaced_and_what_is_due_runs(trace: Path, redis: Redis) -> None:
    with WorkerProcess("default") as worker:
        worker.wait_ready(redis)
        killed = []
        for _ in range(3):
            pid = wait_until(lambda: worker.clock)
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: worker.clock not in (0, *killed))
        enqueue(trace, redis)
        wait_until(lambda: lines(trace))
        assert worker.running
        assert worker.log.count("the clock ended (exit code -9); starting another") == 3
    assert len(lines(trace)) == 1


def test_a_clock_is_replaced_without_harm_to_an_open_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker without horses may be in the middle of one when SIGCHLD comes."""
    forks: list[bool] = []

    def fork(process: clock.ClockProcess) -> None:
        connections.close_all()
        forks.append(True)

    def start_dying(process: clock.ClockProcess) -> None:
        process._parent = os.getpid()
        process.pid = os.posix_spawn("/bin/true", ["true"], {})
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    process = clock.ClockProcess()
    monkeypatch.setattr(clock.ClockProcess, "_fork", fork)
    with process.left_alone():
        with transaction.atomic():
            row = leave.enqueue(trace="")
            start_dying(process)
            process._child_ended(signal.SIGCHLD, None)
            assert Task.objects.filter(pk=row.pk).exists()
        assert (forks, process.pid) == ([], 0)
    assert len(forks) == 1
    start_dying(process)
    process._child_ended(signal.SIGCHLD, None)
    assert len(forks) == 2
    assert Task.objects.filter(pk=row.pk).exists()


def test_a_clock_ends_with_its_worker_however_that_ends(redis: Redis) -> None:
    for end in (WorkerProcess.stop, WorkerProcess.kill):
        redis.flushall()
        with WorkerProcess("default") as worker:
            pid = worker.wait_ready(redis).clock
            assert is_alive(pid)
            end(worker)
            wait_until(lambda pid=pid: not is_alive(pid))


def test_a_clock_that_hangs_is_replaced(redis: Redis, tmp_path: Path) -> None:
    with WorkerProcess("default", PROBE_STUCK=str(tmp_path / "hung once")) as worker:
        first = worker.wait_ready(redis).clock
        wait_until(lambda: worker.clock not in (0, first))
        assert "the clock ended (exit code -14)" in worker.log


def test_a_due_row_runs_although_every_ring_was_lost(trace: Path, redis: Redis) -> None:
    with WorkerProcess("default") as worker:
        worker.wait_ready(redis)
        late: list[float] = []

        def try_again() -> bool:
            asked = time.monotonic()
            row = enqueue(trace, redis, in_seconds=0.5)
            wait_until(lambda: Task.objects.get(pk=row.pk).state == State.DONE)
            late.append(ran_at(trace)[-1] - asked - 0.5)
            return len(late) >= 3 and min(late) < 2.5

        wait_until(try_again)
    assert min(late) > -0.01, "the database's times have milliseconds"


def test_the_first_slot_of_a_new_schedule_is_not_missed(redis: Redis) -> None:
    """SQLite's own time has fewer digits than a stored one: they must not be taken for others."""
    leave_often = task(name="test.clock.often", schedule=timedelta(milliseconds=200))(lambda: None)
    try:
        wait_until(
            lambda: clock.tick(["default"]) and Task.objects.filter(name=leave_often.name).exists()
        )
    finally:
        tasks._registry.pop(leave_often.name)


def test_many_clocks_make_one_task_of_each_slot_and_run_each_row_once(
    trace: Path, redis: Redis, tmp_path: Path
) -> None:
    """Some of them are an hour off: what is due when is the database's business."""
    slots = tmp_path / "slots"
    slots.touch()
    schedule = {"PROBE_SCHEDULE": str(slots)}
    began = time.monotonic()
    with (
        CommandProcess("notifications_clock", PROBE_SKEW="3600", **schedule) as ahead,
        CommandProcess("notifications_clock", PROBE_SKEW="-3600", **schedule) as behind,
        CommandProcess("notifications_clock", **schedule),
        WorkerProcess(**schedule) as one,
        WorkerProcess(PROBE_SKEW="120", **schedule) as other,
    ):
        for process in (one, other):
            process.wait_ready(redis)
        for process, seconds in ((ahead, 3600), (behind, -3600), (other, 120)):
            told = wait_until(lambda process=process: re.search(r"wrong: (.+)", process.log))
            its_time = datetime.fromisoformat(told[1])
            assert abs((its_time - datetime.now(UTC)).total_seconds() - seconds) < 60
        rows = [enqueue(trace, redis, in_seconds=n / 4).pk for n in range(12)]
        wait_until(lambda: len(lines(slots)) >= 3)
        wait_until(lambda: Task.objects.filter(pk__in=rows, state=State.DONE).count() == 12)
    took = time.monotonic() - began
    made = Task.objects.filter(name="tests.probe.notifications.leave_on_schedule")
    assert len(set(made.values_list("key", flat=True))) == made.count()
    assert len(lines(slots)) <= made.count() <= took / 2 + 1
    assert len(lines(trace)) == 12


def test_the_command_ends_when_asked(redis: Redis) -> None:
    with CommandProcess("notifications_clock") as process:
        wait_until(lambda: "ticks" in process.log)
        assert process.stop() == 0
