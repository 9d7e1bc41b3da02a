"""The worker: patient with Redis, quick to stop, tidy, and a good guest of the host's queues."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands
from django.db import connection, transaction
from django.utils import timezone
from django_rq.queues import get_queues
from redis import Redis
from rq import Queue
from rq import SimpleWorker as RQSimpleWorker
from rq.exceptions import StopRequested
from rq.job import Job
from rq.registry import FinishedJobRegistry, ScheduledJobRegistry
from rq.serializers import DefaultSerializer

from notifications import jobs, previews, rings
from notifications.kinds import Kind, get_kind
from notifications.models import Attempt, State, Task
from notifications.retries import RetryPolicy
from notifications.ringjobs import RingQueue
from notifications.testing.guarded import GuardedProcess, find_free_port, make_folder
from notifications.testing.redis_server import RedisServer, find_program
from notifications.worker import LISTEN, PAUSE, TTL, Guarded, SimpleWorker, Worker, guard, preload
from tests.probe.notifications import fail_twice, forgive, leave, linger
from tests.workers import CommandProcess, WorkerProcess, is_alive, run_command, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

CLASSES = ["notifications.worker.Worker", "notifications.worker.SimpleWorker"]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace"
    path.touch()
    return path


@dataclass(frozen=True)
class Line:
    """What a task left, with the time by the clock that all processes of a machine share."""

    word: str
    process: int
    parent: int
    at: float


def lines(trace: Path) -> list[Line]:
    """What the tasks left, in order."""
    split = [line.split() for line in trace.read_text().splitlines()]
    return [Line(word, int(pid), int(ppid), float(at)) for word, pid, ppid, at in split]


def words(trace: Path) -> list[str]:
    return [line.word for line in lines(trace)]


def enqueue(function: Any, trace: Path, **payload: Any) -> Task:
    with transaction.atomic():
        row: Task = function.enqueue(trace=str(trace), **payload)
    return row


def state(row: Task) -> str:
    return str(Task.objects.get(pk=row.pk).state)


def wait_done(row: Task) -> None:
    wait_until(lambda: state(row) == State.DONE)


# -- typed bare ---------------------------------------------------------------------------------


def test_typed_bare_it_serves_everything_that_waited(trace: Path, redis: Redis) -> None:
    """First runs, retries, what is scheduled ahead, every queue; and rings are not needed."""
    rows = [enqueue(leave.using(queue_name=name), trace, word=name)
            for name in ("default", "documents", "maintenance")]  # fmt: skip
    retried = enqueue(fail_twice, trace)
    asked = time.monotonic()
    ahead = enqueue(leave.using(run_after=timedelta(seconds=4)), trace, word="ahead")
    rings.flush(5)
    redis.flushall()
    with WorkerProcess() as worker:
        for row in (*rows, retried, ahead):
            wait_done(row)
        assert "Listening on email, default, documents, maintenance, host" in worker.log
    assert sorted(words(trace)) == ["ahead", "default", "documents", "maintenance", *["try"] * 3]
    [ran] = [line.at for line in lines(trace) if line.word == "ahead"]
    assert ran - asked > 3.99, "it waits until it is due, to the millisecond that databases keep"


def test_a_ring_is_taken_at_once(trace: Path, redis: Redis) -> None:
    """By nothing but the ring: the clock looks when the test is over."""
    took: list[float] = []

    def try_again() -> bool:
        began = time.monotonic()
        enqueue(leave, trace)
        wait_until(lambda: len(words(trace)) > len(took))
        took.append(lines(trace)[-1].at - began)
        wait_until(lambda: _state_in_redis(redis) == "idle")
        return len(took) >= 8 and min(took) < 0.25

    with WorkerProcess(notifications={"CLOCK": 3600.0}) as worker:
        worker.wait_ready(redis)
        wait_until(try_again)


def _state_in_redis(redis: Redis) -> str:
    [key] = redis.smembers("rq:workers")
    return str((redis.hget(key, "state") or b"").decode())


@pytest.mark.parametrize(
    "command",
    [
        ("rqworker", "--worker-class", "notifications.worker.SimpleWorker"),
        ("rqworker", "--worker-class", "rq.SimpleWorker"),
        ("rqworker", "--worker-class", "rq.worker.RoundRobinWorker"),
        ("rqworker-pool", "--num-workers", "2"),
    ],
)
def test_other_workers_serve_too(command: tuple[str, ...], trace: Path, redis: Redis) -> None:
    with CommandProcess(*command) as worker:
        wait_until(lambda: redis.scard("rq:workers") or not worker.running)
        wait_done(enqueue(leave, trace))
        wait_done(enqueue(leave.using(queue_name="documents"), trace))
        assert worker.stop() == 0
    assert not redis.smembers("rq:workers")


def test_a_burst_does_what_is_due_and_ends(trace: Path, redis: Redis) -> None:
    row = enqueue(leave, trace)
    rings.flush(5)
    redis.flushall()
    run_command("rqworker", "--burst")
    assert state(row) == State.DONE


def test_the_commands_are_ours() -> None:
    assert get_commands()["rqworker"] == get_commands()["rqworker-pool"] == "notifications"


def test_unknown_queues_are_named(redis: Redis) -> None:
    with CommandProcess("rqworker", "emial") as worker:
        wait_until(lambda: not worker.running)
        assert "Not in RQ_QUEUES: emial. There are: email, default" in worker.log


# -- Redis goes away ----------------------------------------------------------------------------


def test_an_idle_worker_waits_for_redis(
    trace: Path, redis: Redis, redis_server: RedisServer
) -> None:
    with WorkerProcess() as worker:
        worker.wait_ready(redis)
        redis_server.stop()
        row = enqueue(leave, trace)
        # RQ by itself would wait for longer and longer: 1, 2, 4, 8 … seconds.
        waits = wait_until(lambda: found[:4] if len(found := _waits(worker)) > 3 else None)
        redis_server.start()
        wait_done(row)
        assert worker.running
        assert worker.stop() == 0
    assert max(waits) <= PAUSE


def _waits(worker: WorkerProcess) -> list[int]:
    """The seconds it waited each time it had not reached Redis."""
    found = re.findall(r"could not connect to Redis.* retrying in (\d+) seconds", worker.log)
    return [int(each) for each in found]


@pytest.mark.parametrize("worker_class", CLASSES)
def test_a_busy_worker_survives_without_redis(
    worker_class: str, trace: Path, redis: Redis, redis_server: RedisServer
) -> None:
    with WorkerProcess("--worker-class", worker_class) as worker:
        worker.wait_ready(redis)
        row = enqueue(linger, trace, seconds=2)
        wait_until(lambda: "begin-" in words(trace))
        redis_server.stop()
        wait_done(row)
        wait_until(lambda: "goes on without Redis" in worker.log)
        redis_server.start()
        wait_done(enqueue(leave, trace))
        assert worker.running
    assert words(trace).count("begin-") == 1


def test_a_redis_that_refuses_writes_is_waited_for(trace: Path, redis: Redis) -> None:
    """A demoted primary answers READONLY; RQ would end the worker."""
    with WorkerProcess() as worker:
        worker.wait_ready(redis)
        redis.replicaof("127.0.0.1", 1)
        try:
            wait_until(lambda: "cannot take a job: ReadOnlyError" in worker.log)
        finally:
            redis.replicaof("NO", "ONE")
        wait_done(enqueue(leave, trace))
        assert worker.running


def test_a_worker_started_without_redis_waits_for_it(
    trace: Path, redis: Redis, redis_server: RedisServer
) -> None:
    row = enqueue(leave, trace)
    rings.flush(5)
    redis_server.stop()
    with WorkerProcess() as worker:
        wait_until(lambda: "Redis does not answer" in worker.log)
        redis_server.start()
        wait_done(row)


def test_a_burst_without_redis_says_so(redis: Redis, redis_server: RedisServer) -> None:
    redis_server.stop()
    with WorkerProcess("--burst") as worker:
        wait_until(lambda: not worker.running)
        assert "CommandError: Redis does not answer" in worker.log


def test_stopping_without_redis_is_quick(redis: Redis, redis_server: RedisServer) -> None:
    with WorkerProcess() as worker:
        worker.wait_ready(redis)
        redis_server.stop()
        wait_until(lambda: "could not connect to Redis" in worker.log)
        assert worker.stop(seconds=LISTEN / 2) == 0


# -- stopping -----------------------------------------------------------------------------------


def begun_by(trace: Path, *, told: float, process: int = 0) -> list[Line]:
    """The tasks that were begun, all of them ended, and none begun after `told`; by one process
    alone if it is given."""
    mine = [line for line in lines(trace) if process in (0, line.process)]
    begins = [line for line in mine if line.word.startswith("begin-")]
    pairs = [[f"{name}-{each.word.removeprefix('begin-')}" for name in ("begin", "end")]
             for each in begins]  # fmt: skip
    assert [line.word for line in mine] == [word for pair in pairs for word in pair]
    assert all(line.at < told for line in begins)
    return begins


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("worker_class", CLASSES)
def test_asked_to_stop_it_finishes_what_it_began_and_begins_no_more(
    worker_class: str, number: signal.Signals, trace: Path, redis: Redis
) -> None:
    with WorkerProcess("--worker-class", worker_class) as worker:
        worker.wait_ready(redis)
        with transaction.atomic():
            rows = [linger.enqueue(trace=str(trace), seconds=1, word=str(n)) for n in range(4)]
        wait_until(lambda: words(trace))
        family = worker.children()
        assert worker.stop(number) == 0
        assert not any(is_alive(pid) for pid in family)
    begun = begun_by(trace, told=worker.told)
    states = [state(row) for row in rows]
    assert 1 <= len(begun) < len(rows)
    assert states.count(State.DONE) == len(begun)
    assert states.count(State.PENDING) == len(rows) - len(begun)
    assert set(Task.objects.filter(state=State.PENDING).values_list("attempts", "token")) == {
        (0, None)
    }


def test_a_horse_that_is_told_alone_ends_early_too(trace: Path, redis: Redis) -> None:
    """systemd and containers may tell every process of a group."""
    with WorkerProcess() as worker:
        worker.wait_ready(redis)
        with transaction.atomic():
            for n in range(3):
                linger.enqueue(trace=str(trace), seconds=1.5, word=str(n))
        wait_until(lambda: words(trace))
        [horse] = set(worker.children()) - {worker.clock}
        os.kill(horse, signal.SIGTERM)
        told = time.monotonic()
        wait_until(lambda: not is_alive(horse))
        assert worker.running
        wait_until(lambda: words(trace).count("end-2"))
        assert "Work-horse terminated" not in worker.log
    assert 1 <= len(begun_by(trace, told=told, process=horse)) < 3


def test_an_idle_worker_stops_at_once(redis: Redis) -> None:
    with WorkerProcess() as worker:
        worker.wait_ready(redis)
        began = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - began < LISTEN / 2
    assert not redis.smembers("rq:workers")


TAKEN = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Takes back what a worker in this process does to it."""
    handlers = {number: signal.getsignal(number) for number in TAKEN}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    jobs.STOP.clear()
    jobs.set_queues(())


def test_a_worker_stopped_while_it_waits_for_its_start_ends_well(
    redis: Redis,
    redis_server: RedisServer,
    own_signals: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def stop() -> None:
        wait_until(lambda: "cannot start" in caplog.text)
        os.kill(os.getpid(), signal.SIGTERM)

    worker = make_worker(redis, "default")
    redis_server.stop()
    threading.Thread(target=stop).start()
    assert worker.work() is False
    assert worker._clock.pid == 0


def test_a_worker_stopped_while_it_loads_what_it_needs_ends_well(
    redis: Redis, own_signals: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr("notifications.worker.preload", load)
    worker = make_worker(redis, "default")
    assert worker.work() is False
    assert worker._clock.pid == 0
    assert not redis.smembers("rq:workers")


@pytest.mark.timeout(60)  # it would stay for ever
def test_a_worker_stops_although_the_signal_came_in_a_finaliser(
    redis: Redis, own_signals: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a signal's handler raises there is lost; so it was with the pipelines of redis-py."""

    class Finalised:
        def __del__(self) -> None:
            with suppress(StopRequested):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.2)

    def beat(*args: Any, **options: Any) -> None:
        Finalised()
        gone.append(True)

    gone: list[bool] = []
    worker = make_worker(redis, "default")
    monkeypatch.setattr(worker, "heartbeat", beat)
    worker.work()
    assert gone


@pytest.mark.parametrize("worker_class", CLASSES)
def test_a_task_that_forgives_every_error_is_ended_and_recorded(
    worker_class: str, trace: Path, redis: Redis
) -> None:
    with WorkerProcess("--worker-class", worker_class) as worker:
        worker.wait_ready(redis)
        row = enqueue(forgive.using(retry=RetryPolicy(retries=0)), trace)
        wait_until(lambda: "begin" in words(trace))
        began = time.monotonic()
        wait_until(lambda: state(row) == State.DEAD)
        assert time.monotonic() - began > 0.5  # its timeout is a second
        wait_done(enqueue(leave, trace))
    assert Attempt.objects.get(task=row).text == "TaskTimeout: the task ran longer than 1 s"


@pytest.mark.timeout(20)  # it would listen for 25 seconds
def test_a_worker_stops_although_redis_py_swallowed_the_signal(
    redis: Redis, own_signals: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just before it listens, after it was asked whether it shall stop."""

    def pop(*args: Any, **options: Any) -> Any:
        with suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
        popped.append(True)
        return real(*args, **options)

    popped: list[bool] = []
    worker = make_worker(redis, "default")
    real = worker.queue_class.lpop
    monkeypatch.setattr(worker.queue_class, "lpop", pop)
    began = time.monotonic()
    worker.work()
    assert popped == [True]
    assert time.monotonic() - began < LISTEN / 2
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_horse_outlives_its_killed_parent_and_does_its_task_once(
    trace: Path, redis: Redis
) -> None:
    with WorkerProcess() as worker, WorkerProcess() as other:
        worker.wait_ready(redis)
        other.wait_ready(redis)
        row = enqueue(linger, trace, seconds=1)
        wait_until(lambda: words(trace))
        parent = lines(trace)[0].parent
        next(each for each in (worker, other) if each.pid == parent).kill()
        wait_done(row)
        time.sleep(1)
    assert words(trace) == ["begin-", "end-"]


# -- what stays in Redis ------------------------------------------------------------------------


def remains(redis: Redis) -> set[str]:
    """Keys that are no bookkeeping of living workers."""
    keys = {key.decode() for key in redis.scan_iter()}
    return {key for key in keys if not key.startswith(("rq:worker", "rq:queues", "rq:clean"))}


def test_rings_leave_nothing(trace: Path, redis: Redis) -> None:
    with WorkerProcess("default", "email") as worker:
        worker.wait_ready(redis)
        for _ in range(3):
            wait_done(enqueue(leave, trace))
        wait_until(lambda: remains(redis) == {"rq:queue:default:ring"})
        assert redis.ttl("rq:queue:default:ring") > 0


def test_a_killed_horse_leaves_nothing_either(trace: Path, redis: Redis) -> None:
    with WorkerProcess("default", "email") as worker:
        worker.wait_ready(redis)
        enqueue(linger, trace, seconds=30)
        wait_until(lambda: words(trace))
        assert any(key.startswith("rq:job:ring-") for key in remains(redis))
        [horse] = set(worker.children()) - {worker.clock}
        os.kill(horse, signal.SIGKILL)
        wait_until(lambda: "Work-horse terminated unexpectedly" in worker.log)
        wait_until(lambda: remains(redis) == {"rq:queue:default:ring"})
        assert worker.running


def test_what_a_dead_family_leaves_expires(trace: Path, redis: Redis) -> None:
    with WorkerProcess("default", "email") as worker:
        worker.wait_ready(redis)
        enqueue(linger, trace, seconds=30)
        wait_until(lambda: words(trace))
        for pid in (*worker.children(), worker.pid):
            os.kill(pid, signal.SIGKILL)
    left = remains(redis) - {"rq:wip:default", "rq:queue:default"}
    assert left
    assert all(0 < redis.ttl(key) <= rings.KEPT for key in left)
    redis.zadd("rq:wip:default", {"ring-x:y": time.time() - 1})
    run_command("rqworker", "default", "--burst", "--name", "sweeper")
    assert not redis.zscore("rq:wip:default", "ring-x:y")


@pytest.mark.faults
def test_an_idle_system_asks_redis_seldom(redis: Redis) -> None:
    """Ten thousand commands a day are what free plans of hosted Redis allow."""
    with WorkerProcess("email", "default", "documents", "maintenance") as worker:
        worker.wait_ready(redis)
        time.sleep(2)
        redis.config_resetstat()
        time.sleep(300)
        stats = redis.info("commandstats")
    calls = {name: each["calls"] for name, each in stats.items() if "config" not in name}
    assert sum(calls.values()) / 5 < 10_000 / 24 / 60, calls


# -- a guest among the host's queues ------------------------------------------------------------


def host_queue(redis: Redis) -> Queue:
    return Queue("host", connection=redis, serializer=DefaultSerializer)


def test_the_hosts_jobs_run_as_ever(redis: Redis, trace: Path) -> None:
    """Pickled arguments, results, dependents, callbacks: all that RQ does."""
    queue = host_queue(redis)
    first = queue.enqueue("tests.probe.host.add", args=(timedelta(1), timedelta(2)))
    second = queue.enqueue("tests.probe.host.add", args=(1, 2), depends_on=first)
    later = queue.enqueue_in(timedelta(milliseconds=100), "tests.probe.host.add", 3, 4)
    with WorkerProcess("--with-scheduler"):
        for job, result in ((first, timedelta(3)), (second, 3), (later, 7)):
            wait_until(lambda job=job: job.is_finished)
            assert job.return_value() == result
        wait_done(enqueue(leave, trace))
    assert set(FinishedJobRegistry(queue=queue).get_job_ids()) == {first.id, second.id, later.id}
    assert not redis.exists("rq:scheduler-lock:default")


def test_a_damaged_job_of_the_hosts_stops_nobody(redis: Redis, trace: Path) -> None:
    redis.hset("rq:job:damaged", mapping={"data": b"", "created_at": b"\xff"})
    redis.rpush("rq:queue:host", "damaged")
    with WorkerProcess() as worker:
        wait_until(lambda: "cannot take a job" in worker.log)
        wait_done(enqueue(leave, trace))
        job = host_queue(redis).enqueue("tests.probe.host.add", 1, 1)
        wait_until(lambda: job.is_finished)


def test_rqs_scheduler_keeps_off_our_queues(redis: Redis) -> None:
    worker = Worker(
        [Queue(name, connection=redis) for name in ("default", "host")], connection=redis
    )
    job = Job.create("os.getpid", connection=redis, origin="default")
    job.save()
    ScheduledJobRegistry("default", connection=redis).schedule(job, timezone.now())
    worker._start_scheduler(burst=True)
    assert redis.llen("rq:queue:default") == 0
    assert [queue.name for queue in worker.queues] == ["default", "host"]


# -- in this process ----------------------------------------------------------------------------


def make_worker(redis: Redis, *names: str, kind: Any = Worker) -> Any:
    queues = [Queue(name, connection=redis) for name in names]
    return kind(queues, connection=redis)


def test_our_queues_are_ours_and_the_hosts_are_untouched(redis: Redis, settings: Any) -> None:
    settings.RQ_QUEUES = {**settings.RQ_QUEUES, "host": {"URL": "redis://127.0.0.1:1/0"}}
    queues = get_queues("host")
    worker = Worker([*queues, Queue("email", connection=redis)], connection=redis,
                    queue_class=Queue)  # fmt: skip
    assert worker.queues[0] is queues[0]
    assert isinstance(worker.queues[1], RingQueue)
    assert worker._ordered_queues == worker.queues


def test_any_worker_class_can_be_guarded() -> None:
    guarded = guard(RQSimpleWorker)
    assert issubclass(guarded, Guarded)
    assert issubclass(guarded, RQSimpleWorker)
    assert guard(RQSimpleWorker) is guarded
    assert guard(SimpleWorker) is SimpleWorker


def test_a_worker_that_was_forgotten_registers_again(redis: Redis) -> None:
    worker = make_worker(redis, "default")
    worker.register_birth()
    redis.flushall()
    worker._beaten = 0.0
    worker.heartbeat()
    assert redis.smembers("rq:workers") == redis.smembers("rq:workers:default")
    assert redis.hget(worker.key, "pid") == str(os.getpid()).encode()
    assert 0 < redis.ttl(worker.key) <= TTL + 60


def test_heartbeats_are_rare(redis: Redis) -> None:
    worker = make_worker(redis, "default")
    worker.register_birth()
    redis.config_resetstat()
    for _ in range(50):
        worker.heartbeat()
    assert redis.info("commandstats")["cmdstat_hset"]["calls"] == 1


def test_preloading_leaves_no_connection_open() -> None:
    Task.objects.exists()
    assert connection.connection is not None
    preload()
    assert connection.connection is None


def test_preloading_composes_a_sample_of_every_kind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[tuple[type[Kind], str]] = []

    def refuse(kind: type[Kind], channel: str) -> None:
        tried.append((kind, channel))
        raise KeyError("no sample")

    monkeypatch.setattr(previews, "preview_kind", refuse)
    with caplog.at_level(logging.DEBUG, "notifications.worker"):
        preload()
    assert (get_kind("order_confirmation"), "email") in tried
    assert "no sample of order_confirmation on email" in caplog.text


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_rings_are_logged_for_debugging_only(level: int, redis: Redis, trace: Path) -> None:
    verbosity = "2" if level == logging.DEBUG else "1"
    with WorkerProcess("--verbosity", verbosity) as worker:
        worker.wait_ready(redis)
        wait_done(enqueue(leave, trace))
        wait_until(lambda: _state_in_redis(redis) == "idle")
        assert (rings.PREFIX in worker.log) is (level == logging.DEBUG)


@contextmanager
def running_cluster() -> Iterator[str]:
    """The address of a Redis Cluster of one node."""
    # Its nodes talk to each other on a port 10,000 higher.
    port = next(port for port in iter(find_free_port, None) if port <= 55_535)
    folder = make_folder("cluster")
    words = ["--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--save", ""]
    server = GuardedProcess([find_program(), *words, "--dir", folder], folder=folder)
    try:
        server.wait_until(lambda: "Ready to accept" in server.log.read_text(), seconds=10)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_redis_cluster_is_refused(redis: Redis) -> None:
    with running_cluster() as url, WorkerProcess("--burst", REDIS_URL=url) as worker:
        wait_until(lambda: not worker.running)
        assert "CommandError: This Redis is a cluster." in worker.log


def test_queues_of_another_redis_are_named(redis: Redis, trace: Path) -> None:
    with WorkerProcess(PROBE_ELSEWHERE="redis://127.0.0.1:1/0") as worker:
        worker.wait_ready(redis)
        assert "in another Redis: elsewhere" in worker.log
        wait_done(enqueue(leave, trace))
