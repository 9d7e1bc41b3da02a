"""Rings: one small job that waits, whatever was killed, flushed or rolled back before."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings
from redis import Redis
from redis.connection import SSLConnection
from redis.exceptions import RedisError
from redis.sentinel import SentinelConnectionPool
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from notifications import rings
from notifications.connections import TIMEOUT, quick_redis
from notifications.testing.guarded import GuardedProcess, find_free_port, make_folder
from notifications.testing.redis_server import RedisServer, find_program
from tests.workers import PATIENCE, ROOT, wait_until

LIST = "rq:queue:email"


@pytest.fixture
def quick(redis: Redis) -> Redis:
    return quick_redis("email")


def waiting(redis: Redis, queue: str = "email") -> int:
    return int(redis.llen(f"rq:queue:{queue}"))


# -- one ring -----------------------------------------------------------------------------------


def test_a_ring_is_a_small_job_that_names_its_queue_and_nothing_else(quick: Redis) -> None:
    assert rings.ring_now("email", quick)
    [job_id] = quick.lrange(LIST, 0, -1)
    job = Job.fetch(job_id.decode(), quick, serializer=JSONSerializer)
    assert (job.func_name, list(job.args), job.kwargs) == (
        "notifications.jobs.serve",
        ["email"],
        {},
    )
    assert (job.origin, job.result_ttl, job.meta) == ("email", 0, {})
    assert Queue.all(quick)[0].name == "email"
    assert 0 < quick.ttl(job.key) <= rings.KEPT


def test_no_second_ring_waits(quick: Redis) -> None:
    assert [rings.ring_now("email", quick) for _ in range(3)] == [True, False, False]
    assert waiting(quick) == 1
    assert len(list(quick.scan_iter("rq:job:*"))) == 1


def test_queues_ring_apart(quick: Redis) -> None:
    assert rings.ring_now("email", quick)
    assert rings.ring_now("default", quick)


def test_a_ring_that_is_being_served_swallows_no_other(quick: Redis) -> None:
    rings.ring_now("email", quick)
    taken = quick.lpop(LIST)
    assert taken
    assert quick.exists(f"rq:job:{taken.decode()}")
    assert rings.ring_now("email", quick)


def test_rings_again_after_its_worker_was_killed(quick: Redis) -> None:
    """A killed worker took the ring from the list and left everything else as it was."""
    rings.ring_now("email", quick)
    quick.blpop([LIST], 1)
    assert rings.ring_now("email", quick)
    assert waiting(quick) == 1


def test_rings_again_after_redis_was_emptied(quick: Redis) -> None:
    rings.ring_now("email", quick)
    quick.flushall()
    quick.script_flush()
    assert rings.ring_now("email", quick)
    assert waiting(quick) == 1


def test_a_ring_whose_job_was_evicted_counts_for_nothing(quick: Redis) -> None:
    """Redis's allkeys policies drop hashes and leave the list; workers skip such ids."""
    rings.ring_now("email", quick)
    quick.delete(*quick.scan_iter("rq:job:*"))
    assert rings.ring_now("email", quick)


def test_many_ring_at_once_and_one_ring_waits(quick: Redis) -> None:
    with ThreadPoolExecutor(16) as pool:
        pushed = list(pool.map(lambda _: rings.ring_now("email", quick), range(200)))
    assert pushed.count(True) == 1
    assert waiting(quick) == 1


# -- off the caller's thread --------------------------------------------------------------------


def test_the_bell_rings_for_the_caller(redis: Redis) -> None:
    rings.ring("email", "default")
    wait_until(lambda: waiting(redis, "email") and waiting(redis, "default"))


def test_a_burst_becomes_few_rounds(redis: Redis) -> None:
    redis.config_resetstat()
    began = time.monotonic()
    for _ in range(1_000):
        rings.ring("email")
    rings.flush(5)
    rounds = (time.monotonic() - began) / rings.GAP
    assert waiting(redis) == 1
    calls = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert calls <= rounds + 1
    assert calls < 500


def test_ringing_never_waits_for_a_redis_that_hangs(
    redis: Redis, redis_server: RedisServer
) -> None:
    redis_server.pause()
    assert quickest(lambda: [rings.ring("email") for _ in range(200)]) < 0.05


def test_after_a_failure_it_leaves_redis_alone_for_a_while(monkeypatch: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        calls: list[None] = []

        def refuse() -> None:
            while len(calls) < 4:
                server.accept()[0].close()
                calls.append(None)

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        monkeypatch.setattr(rings, "BREAK", 0.5)
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        with override_settings(RQ_QUEUES={"default": {"URL": url}}):
            began = time.monotonic()
            wait_until(lambda: (rings.ring("default"), len(calls) == 4)[1])
            took = time.monotonic() - began
            rings.flush(5)
    assert took >= 3 * 0.5


def test_a_queue_without_redis_does_not_silence_the_others(redis: Redis) -> None:
    config = {
        "documents": {"URL": "redis://127.0.0.1:1/0"},
        "email": {"URL": os.environ["REDIS_URL"]},
    }
    with override_settings(RQ_QUEUES=config):
        rings.ring("documents", "maintenance", "email")  # no Redis there, no such queue, and this
        wait_until(lambda: waiting(redis))


def test_a_queue_of_the_hosts_own_is_never_rung(redis: Redis) -> None:
    url = os.environ["REDIS_URL"]
    with override_settings(RQ_QUEUES={name: {"URL": url} for name in ("billing", "email")}):
        rings.ring("billing", "email")
        rings.flush(5)
    assert (waiting(redis, "billing"), waiting(redis)) == (0, 1)


def test_a_forked_child_has_a_bell_of_its_own(redis: Redis) -> None:
    rings.ring("default")
    rings.flush(5)
    pid = os.fork()
    if pid == 0:
        try:
            rings.ring("email")
            rings.flush(5)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert waiting(redis) == 1


def run_python(code: str) -> float:
    """Run `code` with Django set up, in a process of its own; the seconds in which that then said
    its farewells."""
    program = [
        "import atexit, time",
        "atexit.register(lambda: print(time.monotonic() - ended))  # the first is called last",
        "import django",
        "django.setup()",
        "from notifications import rings",
        code,
        "ended = time.monotonic()",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return float(done.stdout)


def test_a_process_that_ends_at_once_still_rings(redis: Redis) -> None:
    run_python("rings.ring('email')")
    assert waiting(redis) == 1


def test_a_process_that_ends_does_not_wait_for_a_redis_that_hangs(
    redis: Redis, redis_server: RedisServer
) -> None:
    redis_server.pause()
    assert run_python("rings.ring('email')") < rings.FAREWELL + 1


# -- on commit ----------------------------------------------------------------------------------


@pytest.fixture
def rung(redis: Redis, transactional_db: None) -> Callable[[], bool]:
    """Asks whether `email` has been rung so far."""

    def has_rung() -> bool:
        rings.flush(5)
        return bool(waiting(redis))

    return has_rung


def ask() -> None:
    rings.ring_on_commit("email", "default")


def test_rings_after_the_commit_and_not_before(rung: Callable[[], bool]) -> None:
    with transaction.atomic():
        ask()
        assert not rung()
    assert rung()


def test_never_rings_for_what_is_rolled_back(rung: Callable[[], bool]) -> None:
    with transaction.atomic():
        ask()
        transaction.set_rollback(True)
    assert not rung()


def test_rings_at_once_outside_a_transaction(rung: Callable[[], bool]) -> None:
    ask()
    assert rung()


def test_one_transaction_asks_once(rung: Callable[[], bool]) -> None:
    with transaction.atomic():
        for _ in range(100):
            ask()
        with transaction.atomic():
            ask()
        assert len(connection.run_on_commit) == 1
    assert rung()


def test_each_queue_is_rung(rung: Callable[[], bool], redis: Redis) -> None:
    with transaction.atomic():
        ask()
        rings.ring_on_commit("default", "default")
    assert rung()
    assert waiting(redis, "default") == 1


def rolled_back(*, asks: bool = True) -> None:
    with transaction.atomic():
        if asks:
            ask()
        transaction.set_rollback(True)


def test_a_request_survives_the_rollback_of_an_earlier_one(rung: Callable[[], bool]) -> None:
    with transaction.atomic():
        rolled_back()
        ask()
    assert rung()


def test_a_request_survives_the_rollback_of_a_later_one(rung: Callable[[], bool]) -> None:
    with transaction.atomic():
        ask()
        rolled_back()
    assert rung()


def test_a_request_outside_survives_the_rollback_of_the_savepoint_around_the_first(
    rung: Callable[[], bool],
) -> None:
    with transaction.atomic():
        with transaction.atomic():
            with transaction.atomic():
                ask()
            ask()
            transaction.set_rollback(True)
        ask()
    assert rung()


def test_a_request_after_a_released_savepoint_survives(rung: Callable[[], bool]) -> None:
    with transaction.atomic():
        with transaction.atomic():
            with transaction.atomic():
                ask()
            rolled_back(asks=False)
        ask()
    assert rung()


def test_nothing_is_rung_when_only_rolled_back_parts_asked(rung: Callable[[], bool]) -> None:
    with transaction.atomic():
        rolled_back()
        rolled_back()
    assert not rung()


def test_the_next_transaction_asks_anew(rung: Callable[[], bool], redis: Redis) -> None:
    with transaction.atomic():
        ask()
    assert rung()
    redis.flushall()
    with transaction.atomic():
        ask()
        transaction.set_rollback(True)
    with transaction.atomic():
        ask()
    assert rung()


def test_a_commit_by_hand_leaves_it_to_the_clock(rung: Callable[[], bool]) -> None:
    transaction.set_autocommit(False)
    try:
        ask()
        connection.commit()
    finally:
        transaction.set_autocommit(True)
    assert not rung()


def test_a_test_case_that_runs_the_hooks_can_ask_again(
    rung: Callable[[], bool], redis: Redis, django_capture_on_commit_callbacks: Any
) -> None:
    with transaction.atomic():
        for _ in range(2):
            with django_capture_on_commit_callbacks(execute=True) as callbacks:
                ask()
            assert len(callbacks) == 1
            assert rung()
            redis.flushall()


def quickest(act: Callable[[], object], *, clock: Callable[[], float] = time.monotonic) -> float:
    """The seconds of the best of several tries: others use the machine, too."""
    took = []
    for _ in range(10):
        began = clock()
        act()
        took.append(clock() - began)
    return min(took)


def test_asking_costs_microseconds(rung: Callable[[], bool]) -> None:
    with transaction.atomic():
        took = quickest(lambda: [ask() for _ in range(1_000)], clock=time.thread_time)
    assert took < 0.05, f"{took * 1000:.1f} µs each"


def test_a_stopped_redis_slows_200_transactions_by_less_than_50_ms(
    rung: Callable[[], bool], redis_server: RedisServer
) -> None:
    def place(asks: bool) -> None:
        for _ in range(200):
            with transaction.atomic():
                if asks:
                    ask()

    redis_server.stop()
    place(True)
    # It neither works for it nor waits; other processes have their share of the second time only.
    for clock, share in ((time.thread_time, 0.0), (time.monotonic, 0.5)):
        without = quickest(lambda: place(False), clock=clock)
        with_it = quickest(lambda: place(True), clock=clock)
        said = f"{without:.3f} s, with rings {with_it:.3f} s"
        assert with_it - without < 0.05 + share * without, said


# -- where Redis is -----------------------------------------------------------------------------


def test_connections_are_impatient_and_shared(redis: Redis) -> None:
    assert quick_redis("email") is quick_redis("default")
    kwargs = quick_redis("email").connection_pool.connection_kwargs
    assert (kwargs["socket_timeout"], kwargs["socket_connect_timeout"]) == (TIMEOUT, TIMEOUT)
    assert kwargs["retry"].get_retries() == 0


@pytest.mark.parametrize(
    "config",
    [
        {"URL": "rediss://:secret@redis.example:6380/2"},
        {"HOST": "redis.example", "PORT": 6380, "DB": 2, "PASSWORD": "secret", "SSL": True},
    ],
)
def test_tls_is_kept(config: dict[str, Any]) -> None:
    with override_settings(RQ_QUEUES={"email": config}):
        pool = quick_redis("email").connection_pool
    assert pool.connection_class is SSLConnection
    assert (pool.connection_kwargs["host"], pool.connection_kwargs["port"]) == (
        "redis.example",
        6380,
    )
    assert pool.connection_kwargs["password"] == "secret"
    assert pool.make_connection().socket_timeout == TIMEOUT


def test_rings_through_sentinel(redis: Redis, redis_server: RedisServer) -> None:
    port = find_free_port()
    folder = make_folder("sentinel")
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor shop 127.0.0.1 {redis_server.port} 1\n"
    )
    sentinel = GuardedProcess([find_program(), config, "--sentinel"], folder=folder)
    try:
        sentinel.wait_until(lambda: _answers(port), seconds=PATIENCE)
        queues = {"email": {"SENTINELS": [("127.0.0.1", port)], "MASTER_NAME": "shop", "DB": 0}}
        with override_settings(RQ_QUEUES=queues):
            quick = quick_redis("email")
            assert isinstance(quick.connection_pool, SentinelConnectionPool)
            assert rings.ring_now("email", quick)
            asked = quick.connection_pool.sentinel_manager.sentinels[0].connection_pool
            assert asked.connection_kwargs["socket_timeout"] == TIMEOUT
    finally:
        sentinel.stop()
    assert waiting(redis) == 1


def _answers(port: int) -> bool:
    try:
        with Redis(port=port, socket_timeout=1, socket_connect_timeout=1) as redis:
            return bool(redis.ping())
    except RedisError:
        return False


def test_ringing_a_redis_that_is_away_raises(redis: Redis, redis_server: RedisServer) -> None:
    redis_server.stop()
    with pytest.raises(RedisError):
        rings.ring_now("email", quick_redis("email"))
