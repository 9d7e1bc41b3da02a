"""Ring a queue: see to it that one small RQ job waits there.

A ring carries the queue's name and nothing else. It is best effort: it may fail, be lost or come
twice, and nothing is harmed, because the clock rings again for every due row. Three shapes that
look simpler lose rings: a fixed job id (the ending job deletes the new one), a flag key (sticks
when a worker is killed), a flag for each transaction (dies with a rolled-back savepoint). What
holds: a random id, and a script that pushes unless the last ring is still *in the list*.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import uuid
from functools import partial

from django.db import transaction
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from notifications import conf
from notifications.connections import quick_redis

logger = logging.getLogger("notifications.rings")

PREFIX = "ring-"  # of the job ids
GAP = 0.01  # seconds between the bell's rounds: a burst of commits becomes one ring
BREAK = 5.0  # seconds without tries after Redis failed; the clock rings meanwhile
FAREWELL = 0.5  # seconds a process that ends gives its last rings

# KEYS: the queue's list, the last ring's id, RQ's set of queues. ARGV: the queue's key, the new
# job's id and its key, then the job's hash. LPOS needs Redis 6.0.6.
_PUSH = """
local last = redis.call('GET', KEYS[2])
if last and redis.call('LPOS', KEYS[1], last) then return 0 end
redis.call('HSET', ARGV[3], unpack(ARGV, 4))
redis.call('SET', KEYS[2], ARGV[2], 'EX', 86400)
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('RPUSH', KEYS[1], ARGV[2])
return 1
"""


def ring_on_commit(queue: str, using: str) -> None:
    """Ring after the transaction's commit; never if it is rolled back."""
    transaction.on_commit(partial(ring, queue), using=using, robust=True)


def ring(*queues: str) -> None:
    """Ring soon, on a thread of its own: the caller never waits for Redis."""
    _bell().ring(queues)


def ring_now(queue: str, connection: Redis) -> bool:
    """Ring on this thread; False if a ring was waiting already. Raises RedisError."""
    rq_queue = Queue(queue, connection=connection, serializer=JSONSerializer)
    job = _job(queue, connection)
    fields = [part for pair in job.to_dict(include_meta=False).items() for part in pair]
    pushed = connection.eval(
        _PUSH,
        3,
        rq_queue.key,
        f"notifications:ring:{queue}",
        Queue.redis_queues_keys,
        rq_queue.key,
        job.id,
        job.key,
        *fields,
    )
    return bool(pushed)


def job_timeout() -> float:
    """Seconds RQ gives a ring's job: our own limits end it long before."""
    return float(conf.get("SLICE") + conf.get("LEASE") + conf.get("LONGEST_TASK") + 10)


def _job(queue: str, connection: Redis) -> Job:
    job_id = f"{PREFIX}{uuid.uuid4()}"
    return Job.create(
        "notifications.jobs.serve",
        args=(queue,),
        id=job_id,
        connection=connection,
        serializer=JSONSerializer,
        timeout=int(job_timeout()),
        result_ttl=0,
        failure_ttl=60,
        description=job_id,  # RQ logs it; our worker leaves those lines out
        status=JobStatus.QUEUED,
        origin=queue,
    )


class _Bell:
    """The thread that rings, one for each process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._names: set[str] = set()
        self._wake = threading.Event()
        self._busy = threading.Event()
        self._broken_until = 0.0
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def ring(self, queues: tuple[str, ...]) -> None:
        if time.monotonic() < self._broken_until:
            return
        with self._lock:
            self._names.update(queues)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
                self._thread.start()
        self._wake.set()

    def flush(self, seconds: float) -> None:
        """Give what is asked for a last chance, when the process ends."""
        until = time.monotonic() + seconds
        while (self._names or self._busy.is_set()) and time.monotonic() < until:
            time.sleep(0.002)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                names, self._names = self._names, set()
                self._busy.set()
            try:
                for name in names:
                    ring_now(name, quick_redis(name))
            except (RedisError, OSError) as error:
                self._broken_until = time.monotonic() + BREAK
                logger.warning(
                    "cannot ring: Redis: %s; the clock will ring when it is back",
                    type(error).__name__,
                )
            except Exception:
                logger.exception("cannot ring %s", ", ".join(sorted(names)))
            finally:
                self._busy.clear()
            time.sleep(GAP)


_the_bell: _Bell | None = None


def _bell() -> _Bell:
    global _the_bell
    if _the_bell is None or _the_bell.pid != os.getpid():  # a thread does not survive a fork
        _the_bell = _Bell()
        atexit.register(_the_bell.flush, FAREWELL)
    return _the_bell
