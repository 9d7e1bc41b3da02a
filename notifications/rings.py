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
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakKeyDictionary

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from notifications import conf
from notifications.connections import quick_redis
from notifications.redaction import safe_traceback

logger = logging.getLogger("notifications.rings")

PREFIX = "ring-"  # of the job ids
KEPT = 86_400  # seconds a ring that nobody takes stays in Redis
GAP = 0.01  # seconds between the bell's rounds: a burst of commits becomes one ring
BREAK = 5.0  # seconds without a try after Redis failed; the clock rings meanwhile
FAREWELL = 0.5  # seconds a process that ends gives its last rings

# KEYS: the queue's list, the id of its last ring, RQ's set of queues. ARGV: the prefix of job
# keys, the new job's id, KEPT, then the fields of the job's hash. A ring whose hash was evicted is
# none: workers skip it. LPOS needs Redis 6.0.6.
_PUSH = """
local last = redis.call('GET', KEYS[2])
if last and redis.call('LPOS', KEYS[1], last)
    and redis.call('EXISTS', ARGV[1] .. last) == 1 then return 0 end
local key = ARGV[1] .. ARGV[2]
redis.call('HSET', key, unpack(ARGV, 4))
redis.call('EXPIRE', key, ARGV[3])
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
redis.call('SADD', KEYS[3], KEYS[1])
redis.call('RPUSH', KEYS[1], ARGV[2])
return 1
"""


def ring(*queues: str) -> None:
    """Ring soon, on a thread of its own: the caller never waits for Redis, and nothing raises.

    The host's own queues are left alone: their workers could only fail a job of ours.
    """
    ours = tuple(name for name in queues if conf.owns_queue(name))
    if ours:
        _bell().ring(ours)


@contextmanager
def heard_here(queues: Collection[str]) -> Iterator[set[str]]:
    """A block in which this thread serves `queues` itself: what it commits there wakes nobody else.

    Gives the set of the queues that were not rung for that reason. Whoever serves looks at them
    before the block ends, or rings.
    """
    _here.queues, _here.rung = frozenset(queues), set()
    try:
        yield _here.rung
    finally:
        _here.queues, _here.rung = frozenset(), set()


def ring_on_commit(queue: str, using: str) -> None:
    """Ring after the commit of the transaction on database `using`; never if it is rolled back.

    What is not sent anywhere has no queue (""), and nobody is rung.
    """
    if not queue:
        return
    connection = connections[using]
    if not connection.in_atomic_block:
        if connection.get_autocommit():
            _ring_unless_heard(queue)
        # Else a commit by hand ends the transaction. Django has no hook there: the clock rings.
        return
    asked = _asked_on(connection)
    if queue not in asked.queues:
        asked.queues.add(queue)
        transaction.on_commit(partial(_committed, asked, queue), using=using, robust=True)


def ring_now(queue: str, connection: Redis) -> bool:
    """Ring on this thread; False if a ring was waiting already. Raises RedisError."""
    job = _job(queue, connection)
    fields = [part for pair in job.to_dict(include_meta=False).items() for part in pair]
    list_key = f"{Queue.redis_queue_namespace_prefix}{queue}"
    push = connection.register_script(_PUSH)
    return bool(
        push(
            keys=[list_key, f"{list_key}:ring", Queue.redis_queues_keys],
            args=[Job.redis_job_namespace_prefix, job.id, KEPT, *fields],
        )
    )


def flush(seconds: float = FAREWELL) -> None:
    """Give what was asked for a last chance, at most `seconds` long: this process ends."""
    if _the_bell is not None:
        _the_bell.flush(seconds)


def job_timeout() -> int:
    """Seconds RQ gives a ring's job: our own limits end it long before."""
    return int(conf.get("SLICE") + conf.get("LEASE") + conf.get("LONGEST_TASK") + 10)


class _Here(threading.local):
    queues: frozenset[str] = frozenset()
    rung: set[str] = set()  # never changed; each block has its own


_here = _Here()


def _ring_unless_heard(queue: str) -> None:
    if queue in _here.queues:
        _here.rung.add(queue)
    else:
        ring(queue)


def _job(queue: str, connection: Redis) -> Job:
    job_id = f"{PREFIX}{uuid.uuid4()}"
    return Job.create(
        "notifications.jobs.serve",
        args=(queue,),
        id=job_id,
        connection=connection,
        serializer=JSONSerializer,
        timeout=job_timeout(),
        result_ttl=0,
        failure_ttl=60,
        description=job_id,  # RQ logs it; our worker leaves those lines out
        status=JobStatus.QUEUED,
        origin=queue,
    )


@dataclass(slots=True)
class _Asked:
    """What the open transaction of one connection has been asked to ring already.

    A later request for the same queue rests on the hook of an earlier one. That hook cannot vanish
    unseen: when a savepoint is rolled back, as when a transaction ends, Django puts a new list of
    hooks in the place of the old one, and all is asked anew.
    """

    hooks: object  # the connection's list
    queues: set[str] = field(default_factory=set)


_asked: WeakKeyDictionary[BaseDatabaseWrapper, _Asked] = WeakKeyDictionary()


def _asked_on(connection: BaseDatabaseWrapper) -> _Asked:
    asked = _asked.get(connection)
    if asked is None or asked.hooks is not connection.run_on_commit:
        asked = _asked[connection] = _Asked(connection.run_on_commit)
    return asked


def _committed(asked: _Asked, queue: str) -> None:
    # Forgotten first: test cases run hooks while their transaction stays open.
    asked.queues.discard(queue)
    _ring_unless_heard(queue)


class _Bell:
    """The thread that rings, one for each process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards what follows
        self._names: dict[str, None] = {}  # asked for, in order
        self._ringing = False
        self._thread: threading.Thread | None = None
        self._quiet_until: dict[str, float] = {}  # by queue; the thread's own

    def ring(self, queues: tuple[str, ...]) -> None:
        with self._changed:
            self._names.update(dict.fromkeys(queues))
            if self._thread is None:
                self._start()
            self._changed.notify_all()

    def flush(self, seconds: float) -> None:
        with self._changed:
            if self._thread is not None:
                self._changed.wait_for(lambda: not (self._names or self._ringing), seconds)

    def _start(self) -> None:
        # A daemon: a hanging Redis must not keep the process from ending.
        thread = threading.Thread(target=self._run, name="bell", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the interpreter is shutting down, or no thread is left
            logger.warning("cannot ring: %s; the clock will", error)
        else:
            self._thread = thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._ringing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._names)
                names, self._names = self._names, {}
                self._ringing = True
            for name in names:
                self._try(name)
            time.sleep(GAP)

    def _try(self, name: str) -> None:
        if time.monotonic() < self._quiet_until.get(name, 0.0):
            return
        try:
            ring_now(name, quick_redis(name))
        except (RedisError, OSError) as error:
            logger.warning(
                "cannot ring %s: %s; the clock will when Redis is back", name, type(error).__name__
            )
        except Exception as error:
            logger.error("cannot ring %s: %s", name, safe_traceback(error))
        else:
            return
        self._quiet_until[name] = time.monotonic() + BREAK


_the_bell: _Bell | None = None


def _bell() -> _Bell:
    global _the_bell
    if _the_bell is None:
        _the_bell = _Bell()
    return _the_bell


def _forget_bell() -> None:
    """In a forked child: its parent's thread is not there, and its lock may be held for ever."""
    global _the_bell
    _the_bell = None


os.register_at_fork(after_in_child=_forget_bell)
atexit.register(flush)
