"""Somebody can write into Redis: nothing they leave on our queues runs, by any way in.

Each trap writes a line into one file, the canary, if any code of its maker's runs. That the traps
are live is shown by RQ's own worker, which walks into them.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from notifications import conf, rings, tasks
from notifications.connections import quick_redis
from notifications.models import State, Task
from notifications.ringjobs import RUNNABLE, JobRefused, RingJob, RingQueue, time_limit
from notifications.tasks import task
from notifications.testing.redis_server import RedisServer
from tests.probe.canary import Bomb
from tests.probe.notifications import leave
from tests.workers import ROOT, CommandProcess, run_command, wait_until

CALL = ["notifications.jobs.serve", None, ["default"], {}]
NOW = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
LONG_AGO = 1.0  # a registry score that has expired


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "canary"
    path.touch()
    monkeypatch.setenv("CANARY", str(path))
    return path


@pytest.fixture
def listener(canary: Path) -> Iterator[str]:
    """The address of a web server that a webhook would call."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with canary.open("a") as file:
                file.write("webhook\n")
            self.send_response(204)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Intruder:
    """Writes into Redis what no honest program would."""

    def __init__(self, redis: Redis, queue: str, *, url: str = "") -> None:
        self.redis = redis
        self.queue = queue
        self.url = url
        redis.sadd("rq:queues", f"rq:queue:{queue}")

    def job(self, call: Any = CALL, **fields: Any) -> str:
        """A job hash; its id."""
        job_id = str(uuid.uuid4())
        raw = call if isinstance(call, bytes) else json.dumps(call).encode()
        mapping = {
            "created_at": NOW,
            "enqueued_at": NOW,
            "data": zlib.compress(raw),
            "origin": self.queue,
            "status": "queued",
            "timeout": 20,
            **fields,
        }
        self.redis.hset(f"rq:job:{job_id}", mapping=mapping)
        return job_id

    def push(self, job_id: str) -> str:
        self.redis.rpush(f"rq:queue:{self.queue}", job_id)
        return job_id

    def register(self, registry: str, job_id: str, score: float = LONG_AGO) -> None:
        self.redis.zadd(f"rq:{registry}:{self.queue}", {job_id: score})

    def trapped(self, what: str, call: Any = CALL, **fields: Any) -> str:
        """A job with a trap in every field that RQ reads and acts on."""
        hooks = [
            {"url": self.url, "job_status": status, "method": "GET", "timeout": 2}
            for status in ("finished", "failed")
        ]
        return self.job(
            call,
            **{
                "result": pickle.dumps(Bomb(f"result, {what}")),
                "meta": pickle.dumps(Bomb(f"meta, {what}")),
                "success_callback_name": "tests.probe.canary.on_success",
                "failure_callback_name": "tests.probe.canary.on_failure",
                "stopped_callback_name": "tests.probe.canary.on_stopped",
                **({"webhooks": json.dumps(hooks)} if self.url else {}),
                **fields,
            },
        )

    def set_all_traps(self) -> None:
        """Every way in at once."""
        self.push(self.job(pickle.dumps(Bomb("popped"))))
        self.push(self.job(["os.system", None, [f"echo os.system >> {os.environ['CANARY']}"], {}]))
        self.push(self.job(["tests.probe.canary.sing", None, ["a function of the host's"], {}]))
        self.push(self.job(["system", "os", ["true"], {}]))
        self.push(self.job(["notifications.jobs.set_queues", None, [["x"]], {}]))
        self.push(self.trapped("popped"))
        self.push(self.trapped("refused", ["os.system", None, ["true"], {}]))
        self.push(self.trapped("retried", retries_left=3, retry_intervals="[0]"))
        self.push(self.trapped("repeated", repeats_left=3, repeat_intervals="[0]"))
        self.push(self.trapped("limited", rate_limit_key="x", rate_limit_concurrency=1))
        self.push(self.trapped("grouped", group_id="gang"))

        parent = self.push(self.trapped("parent"))
        child = self.trapped("dependent", dependency_ids=json.dumps([parent]), status="deferred")
        self.redis.sadd(f"rq:job:{parent}:dependents", child)
        self.redis.sadd(f"rq:job:{child}:dependencies", parent)
        self.register("deferred", child)

        for registry, status in (
            ("failed", "failed"),
            ("finished", "finished"),
            ("deferred", "deferred"),
            ("scheduled", "scheduled"),
            ("ready", "ready_to_enqueue"),
            ("canceled", "canceled"),
        ):
            self.register(registry, self.trapped(registry, status=status))
        started = self.trapped("started", status="started")
        self.register("wip", f"{started}:{uuid.uuid4().hex}")
        stuck = self.trapped("intermediate")
        self.redis.rpush(f"rq:queue:{self.queue}:intermediate", stuck)
        # RQ acts on the second visit, a minute after the first.
        self.redis.set(f"rq:queue:{self.queue}:intermediate:first_seen:{stuck}", time.time() - 600)
        self.redis.sadd("rq:groups", "gang")
        self.redis.sadd("rq:group:gang", self.trapped("group"))


# -- RQ's own worker walks into them ------------------------------------------------------------


def run_stock_worker(queue: str, serializer: str, redis_server: RedisServer) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "rq.cli", "worker", "--burst", "--with-scheduler"),
            *("--url", redis_server.url, "--serializer", serializer, queue),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


def test_the_traps_are_live(
    redis: Redis, redis_server: RedisServer, canary: Path, listener: str
) -> None:
    for serializer in ("pickle", "json"):
        Intruder(redis, f"stock-{serializer}", url=listener).set_all_traps()
        # The burst ends at the job that cannot be read, so more than one is needed.
        for _ in range(3):
            run_stock_worker(f"stock-{serializer}", serializer, redis_server)
    sung = set(canary.read_text().splitlines())
    assert {"os.system", "failure callback", "webhook", "a function of the host's"} <= sung
    assert any(line.startswith("pickle: ") for line in sung)


# -- ours do not --------------------------------------------------------------------------------


def burst(*words: str) -> Callable[[Redis], None]:
    def run(redis: Redis) -> None:
        run_command(*words, "--burst", "--verbosity", "0", seconds=60)

    return run


def stay(*words: str) -> Callable[[Redis], None]:
    """A worker that stays: maintenance, a scheduler, and a second look at everything."""

    def run(redis: Redis) -> None:
        with CommandProcess(*words) as worker:
            wait_until(lambda: not redis.llen("rq:queue:default"), seconds=30)
            time.sleep(2.5)  # RQ's scheduler looks every second
            assert worker.running, worker.log
            worker.stop()

    return run


WORKERS = {
    "forking": burst("rqworker", "default"),
    "forking, all queues": burst("rqworker"),
    "simple": burst("rqworker", "--worker-class", "notifications.worker.SimpleWorker", "default"),
    "RQ's own class": burst("rqworker", "--worker-class", "rq.SimpleWorker", "default", "email"),
    "pool": burst("rqworker-pool", "default", "--num-workers", "2"),
    "staying, with RQ's scheduler": stay("rqworker", "default", "host", "--with-scheduler"),
    "staying pool": stay("rqworker-pool", "default", "host"),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("worker", WORKERS)
def test_nothing_of_an_intruders_runs(
    worker: str, redis: Redis, canary: Path, listener: str, tmp_path: Path
) -> None:
    intruder = Intruder(redis, "default", url=listener)
    intruder.set_all_traps()
    with transaction.atomic():
        row = leave.enqueue(trace=str(tmp_path / "trace"))
    rings.flush(5)
    WORKERS[worker](redis)
    assert canary.read_text() == ""
    # And the honest work was done all the same.
    assert Task.objects.get(pk=row.pk).state == State.DONE
    assert redis.llen("rq:queue:default") == 0


@pytest.mark.django_db(transaction=True)
def test_a_refused_job_fails_where_people_look(redis: Redis, canary: Path) -> None:
    intruder = Intruder(redis, "default")
    job_id = intruder.push(intruder.job(["os.system", None, ["true"], {}]))
    run_command("rqworker", "default", "--burst")
    assert redis.zrange("rq:failed:default", 0, -1) == [job_id.encode()]
    failed = Job.fetch(job_id, redis, serializer=JSONSerializer)
    error = failed.latest_result().exc_string
    assert "JobRefused: 'os.system' does not run on this queue" in error
    assert 0 < redis.ttl(f"rq:job:{job_id}") <= 86_400


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("words", [("default",), ("default", "email")])
def test_damaged_jobs_do_not_end_the_worker(
    words: tuple[str, ...], redis: Redis, tmp_path: Path
) -> None:
    intruder = Intruder(redis, "default")
    key = "rq:job:{}".format
    for field in ("created_at", "enqueued_at", "timeout", "result_ttl", "status", "dependency_ids"):
        intruder.push(intruder.job(**{field: b"\xff not this"}))
    no_hash = intruder.push(str(uuid.uuid4()))
    redis.set(key(no_hash), "a string")
    no_call = intruder.push(str(uuid.uuid4()))
    redis.hset(key(no_call), "status", "queued")
    intruder.push(str(uuid.uuid4()))  # no key at all
    intruder.push("not/an id; of a job")
    redis.rpush("rq:queue:default", b"\xff\xfe")
    intruder.push(intruder.job(data=b"neither packed nor JSON"))
    intruder.push(intruder.job(data=zlib.compress(b"[" * 10_000)))
    intruder.push(intruder.job(data=zlib.compress(b" " * 10_000_000)))
    with transaction.atomic():
        row = leave.enqueue(trace=str(tmp_path / "trace"))
    rings.flush(5)
    with CommandProcess("rqworker", *words) as worker:
        wait_until(lambda: not redis.llen("rq:queue:default"), seconds=30)
        wait_until(lambda: Task.objects.get(pk=row.pk).state == State.DONE)
        assert worker.running
        assert worker.log.count("removed a damaged job of default") == 2
        assert worker.log.count("refused a job of default: its call has more than 16384") == 1
    assert not redis.exists(key(no_hash), key(no_call))


# -- the job class ------------------------------------------------------------------------------


def test_only_the_functions_of_the_jobs_module_run() -> None:
    assert set(RUNNABLE) >= {"notifications.jobs.serve", "notifications.jobs.deliver_email"}
    assert all(name.startswith("notifications.jobs.") for name in RUNNABLE)
    assert "notifications.jobs.set_queues" not in RUNNABLE
    assert "notifications.jobs.deliver" not in RUNNABLE


@pytest.mark.parametrize(
    "call",
    [
        ["os.system", None, ["true"], {}],
        ["notifications.jobs.set_queues", None, [["x"]], {}],
        ["notifications.jobs.serve", "an instance", ["default"], {}],
        [["a list"], None, [], {}],
        [None, None, [], {}],
    ],
)
def test_other_calls_are_refused(call: Any, redis: Redis) -> None:
    intruder = Intruder(redis, "default")
    job = RingQueue("default", redis).take(intruder.job(call).encode())
    assert job is not None
    assert not job.is_ring
    with pytest.raises(JobRefused, match="does not run on this queue"):
        job.perform()


def test_a_ring_keeps_its_call_and_nothing_else(redis: Redis) -> None:
    intruder = Intruder(redis, "default", url="http://127.0.0.1:1/")
    job_id = intruder.trapped(
        "a ring",
        retries_left=3,
        repeats_left=3,
        rate_limit_key="x",
        rate_limit_concurrency=1,
        group_id="gang",
        dependency_ids='["a"]',
        timeout=1,
        result_ttl=-1,
        ttl=-1,
        origin="elsewhere",
    )
    job = RingQueue("default", redis).take(job_id.encode())
    assert job is not None
    assert job.is_ring
    fresh = RingJob(job_id, redis, JSONSerializer)
    kept = {name.lstrip("_") for name, value in vars(job).items() if vars(fresh)[name] != value}
    call = {"data", "func_name", "instance", "args", "kwargs"}
    ours = {"created_at", "description", "failure_ttl", "origin", "result_ttl", "status", "timeout"}
    assert kept == call | ours
    assert (job.origin, job.result_ttl, job.timeout) == ("default", 0, time_limit())


def test_a_hanging_job_is_ended_soon_after_its_longest_task(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_registry", {})
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SLICE": 5.0}
    channel = max(each.timeout for each in conf.channels().values())
    assert time_limit() == 5 + channel + 30
    task(name="test.long", timeout=90)(lambda: None)
    assert time_limit() == 5 + 90 + 30


def test_what_rings_write_is_what_workers_accept(redis: Redis) -> None:
    rings.ring_now("email", quick_redis("email"))
    job = RingQueue("email", redis).take(redis.lpop("rq:queue:email"))
    assert job is not None
    assert job.is_ring
    assert list(job.args) == ["email"]
