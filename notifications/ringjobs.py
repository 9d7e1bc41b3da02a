"""Jobs of our queues as our workers read them: from Redis comes nothing that could run.

RQ reads jobs with pickle, runs any function they name, and acts on results, callbacks, webhooks,
retries and dependents found beside them. A job of ours is JSON, its few fields are checked, and it
runs one of `RUNNABLE` or nothing.
"""

# mypy: allow-untyped-calls
# (many methods of RQ's that are extended here have no types)

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError
from rq.exceptions import NoSuchJobError, StopRequested
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer
from rq.timeouts import BaseDeathPenalty, UnixSignalDeathPenalty
from rq.utils import as_text, decode_redis_hash

from notifications import conf, jobs, tasks
from notifications.errors import NotificationsError

logger = logging.getLogger("notifications.ringjobs")

LARGEST = 16_384  # bytes of a job's call, unpacked
SETTLING = 30.0  # seconds
FAILURE_KEPT = 86_400  # seconds a refused job stays in RQ's failed registry, for somebody to see

RUNNABLE: Mapping[str, Callable[..., None]] = {
    f"{jobs.__name__}.{name}": function
    for name, function in vars(jobs).items()
    if name == "serve" or name.startswith("deliver_")
}


class JobRefused(NotificationsError):
    """Raised when a job of one of our queues asks for a function that is not RUNNABLE."""


class TooLarge(NotificationsError, ValueError):
    """Raised when a job's call has more than LARGEST bytes, as none of ours ever has."""


class RingJob(Job):
    """A job of one of our queues."""

    def restore(self, raw_data: Mapping[Any, Any]) -> None:
        """Take the call from a Redis hash, and nothing else: the rest is ours to say.

        Raises NoSuchJobError for a hash without a call, TooLarge, and ValueError or zlib.error for
        one that is damaged.
        """
        data = decode_redis_hash(dict(raw_data)).get("data")
        if data is None:
            raise NoSuchJobError(f"{self.id} is no job")
        self.data = _inflated(data)
        self._status = JobStatus.QUEUED
        self.description = self.id  # what RQ logs
        self.timeout = time_limit()
        self.result_ttl = 0
        self.failure_ttl = FAILURE_KEPT

    def to_dict(self, include_meta: bool = True, include_result: bool = True) -> dict[str, Any]:
        """What is written back: all but the description, so that a refused job keeps its owner's,
        by which people know it."""
        fields: dict[str, Any] = super().to_dict(include_meta, include_result)
        fields.pop("description", None)
        return fields

    @property
    def func(self) -> Callable[..., None]:
        """The function to run. Raises JobRefused, and DeserializationError."""
        name = self.func_name
        if self.instance is not None or not isinstance(name, str) or name not in RUNNABLE:
            raise JobRefused(
                f"{name!r} does not run on this queue, which is the notifications app's alone: "
                f"enqueue it to another one. Here run {', '.join(sorted(RUNNABLE))}."
            )
        return RUNNABLE[name]

    @property
    def is_ring(self) -> bool:
        """Whether it only serves queues, so that losing it loses nothing."""
        try:
            return self.func is jobs.serve
        except Exception:
            return False


def time_limit() -> int:
    """Seconds after which RQ ends a job of ours: only a hanging process gets there.

    Its slice, the longest of what it may just have begun, and time to settle.
    """
    longest = [channel.timeout for channel in conf.channels().values()]
    longest += [function.seconds for function in tasks.all_tasks().values()]
    return int(conf.get("SLICE") + max(longest, default=0.0) + SETTLING)


class RingQueue(Queue):
    """One of our queues."""

    def __init__(self, name: str, connection: Redis) -> None:
        super().__init__(name, connection, job_class=RingJob, serializer=JSONSerializer)

    def take(self, job_id: bytes) -> RingJob | None:
        """The job of an id that was popped; None, and its remains deleted, if it is none."""
        try:
            job = RingJob(as_text(job_id), self.connection, JSONSerializer)
            job.refresh()
        except TooLarge as error:
            self._refuse(job_id)
            logger.warning("refused a job of %s: %s", self.name, error)
            return None
        except (NoSuchJobError, ResponseError, ValueError, TypeError, zlib.error) as error:
            if self.connection.delete(RingJob.redis_job_namespace_prefix.encode() + job_id):
                logger.warning("removed a damaged job of %s: %s", self.name, type(error).__name__)
            return None
        job.origin = self.name
        return job

    def _refuse(self, job_id: bytes) -> None:
        """Put it where jobs go that may not run here, for somebody to see: it is a job of the
        host's, enqueued to the wrong queue."""
        failed = FailedJobRegistry(self.name, self.connection)
        with self.connection.pipeline() as pipeline:
            pipeline.expire(RingJob.redis_job_namespace_prefix.encode() + job_id, FAILURE_KEPT)
            pipeline.zadd(failed.key, {job_id: time.time() + FAILURE_KEPT})
            pipeline.execute()

    def move_dependents_to_ready(self, *args: Any, **kwargs: Any) -> dict[str, list[str]]:
        """Nothing depends on a ring, whatever Redis says."""
        return {}

    def enqueue_dependents(self, *args: Any, **kwargs: Any) -> dict[str, list[str]]:
        """Nothing depends on a ring, whatever Redis says."""
        return {}


class _Popping(Queue):
    """Mixed into a worker's queue class: pops from our queues and the host's alike."""

    @classmethod
    def dequeue_any(
        cls,
        queues: Iterable[Queue],
        timeout: int | None,
        connection: Redis,
        job_class: type[Job] | None = None,
        serializer: Any = None,
        death_penalty_class: type[BaseDeathPenalty] | None = UnixSignalDeathPenalty,
    ) -> tuple[Job, Queue] | None:
        """The first job of `queues` and its queue; see `rq.Queue.dequeue_any`.

        Raises DequeueTimeout after `timeout` seconds (None is for not waiting at all), and
        StopRequested when the worker was told to stop: RQ's handler of the signal raises it too,
        but wherever the worker is just then. In a finaliser of redis-py's it came to nothing, and
        the worker stayed for ever.
        """
        if jobs.STOP.is_set():
            raise StopRequested
        by_key = {queue.key: queue for queue in queues}
        if not any(isinstance(queue, RingQueue) for queue in by_key.values()):
            return super().dequeue_any(
                by_key.values(), timeout, connection, job_class, serializer, death_penalty_class
            )
        while True:
            # Also for a single queue: what RQ's intermediate list is for, the clock does.
            popped = cls.lpop(list(by_key), timeout, connection=connection)
            if popped is None:
                return None
            key, job_id = as_text(popped[0]), popped[1]
            queue = by_key[key]
            if isinstance(queue, RingQueue):
                job: Job | None = queue.take(job_id)
            else:
                queue = cls.from_queue_key(
                    key, connection, job_class, serializer, death_penalty_class
                )
                job = _fetch(queue, as_text(job_id))
            if job is not None:
                return job, queue


@cache
def popping(queue_class: type[Queue]) -> type[Queue]:
    """`queue_class`, able to pop from our queues too."""
    if issubclass(queue_class, _Popping):
        return queue_class
    return type(f"Popping{queue_class.__name__}", (_Popping, queue_class), {})


def _fetch(queue: Queue, job_id: str) -> Job | None:
    """A job of the host's, as RQ fetches it."""
    try:
        return queue.job_class.fetch(job_id, queue.connection, queue.serializer)
    except NoSuchJobError:
        return None


def _inflated(data: bytes) -> bytes:
    """The call's bytes, which RQ packs; never more than LARGEST. Raises TooLarge and zlib.error."""
    unpacking = zlib.decompressobj()
    try:
        plain = unpacking.decompress(data, LARGEST)
    except zlib.error:
        plain, rest = data[:LARGEST], data[LARGEST:]  # RQ also reads unpacked ones
    else:
        rest = unpacking.unconsumed_tail
    if rest:
        raise TooLarge(f"its call has more than {LARGEST} bytes")
    return plain
