"""The worker: RQ's own, made safe for our queues, with the clock as a child process.

Set once as RQ["WORKER_CLASS"]; `rqworker` and `rqworker-pool` then use it. What it adds:

* On our queues jobs are JSON, and a job is only a ring: our `Job` takes the few fields of a ring
  from Redis and runs only functions of `notifications.jobs`. Redis contents are not trusted.
* The host's other queues keep RQ's serializer, Job and scheduler, as they were.
* SIGTERM reaches the horse too, which finishes what it has begun and returns the rest.
* A lost Redis is tried again every few seconds; the worker does not end.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from django.db import connections
from redis.exceptions import RedisError
from rq import SimpleWorker as RQSimpleWorker
from rq import Worker as RQWorker
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job as RQJob
from rq.queue import Queue as RQQueue
from rq.serializers import JSONSerializer

from notifications import clock, conf, jobs, kinds, rings

if TYPE_CHECKING:
    Base = RQWorker
else:
    Base = object

logger = logging.getLogger("notifications.worker")

LONGEST_WAIT = 5.0  # seconds between tries to reach Redis
MAINTENANCE = 3600  # seconds; rings leave next to nothing to clean

RUNNABLE: Mapping[str, Callable[..., None]] = {
    f"{function.__module__}.{function.__qualname__}": function
    for function in (jobs.serve, jobs.deliver_email)
}

_TRUSTED_FIELDS = frozenset(
    ("data", "created_at", "enqueued_at", "started_at", "ended_at", "last_heartbeat", "origin",
     "status", "worker_name")
)  # fmt: skip


class Job(RQJob):
    """A job of our queues. Results, callbacks, webhooks, retries, dependents, all that RQ would
    act on, are dropped as it is read."""

    def restore(self, raw_data: Any) -> None:
        """Take a ring's fields from a Redis hash. Raises NoSuchJobError for one that is no ring,
        which RQ skips: any other error would end the worker at every start."""
        try:
            kept = {
                name: value
                for name, value in raw_data.items()
                if (name.decode() if isinstance(name, bytes) else name) in _TRUSTED_FIELDS
            }
            super().restore(kept)
            self._deserialize_data()
            self._check_call()
        except NoSuchJobError:
            raise
        except Exception as error:
            logger.warning("job %s is none of ours and is skipped", self.id)
            raise NoSuchJobError(f"job {self.id} is none of ours") from error
        self.description = self.id
        self.timeout = int(rings.job_timeout())
        self.result_ttl = 0
        self.failure_ttl = 60

    @property
    def func(self) -> Callable[..., None]:
        """The function to run, one of RUNNABLE. Raises InvalidJobOperation for any other."""
        self._check_call()
        return RUNNABLE[self.func_name]

    def _check_call(self) -> None:
        if self.instance is not None or self.func_name not in RUNNABLE:
            raise InvalidJobOperation("our queues run only the functions of notifications.jobs")

    @property
    def dependents_key(self) -> str:
        """Nothing depends on a ring, whatever Redis says."""
        return f"{self.key}:no-dependents"


class _QueueOfOurs:
    """Mixed into the worker's queue class: reads jobs of our queues as ours."""

    redis_queue_namespace_prefix: str

    @classmethod
    def _fetch_dequeued_job(
        cls,
        connection: Any,
        queue_key: str,
        job_id: str,
        job_class: Any = None,
        serializer: Any = None,
        death_penalty_class: Any = None,
    ) -> Any:
        if conf.owns_queue(queue_key.removeprefix(cls.redis_queue_namespace_prefix)):
            job_class, serializer = Job, JSONSerializer
        return super()._fetch_dequeued_job(  # type: ignore[misc]
            connection,
            queue_key,
            job_id,
            job_class=job_class,
            serializer=serializer,
            death_penalty_class=death_penalty_class,
        )


class _NoRingLines(logging.Filter):
    """RQ logs four lines for each job; a ring is not worth one."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or rings.PREFIX not in record.getMessage()


class _OurWorker(Base):
    """What both worker classes add to RQ's."""

    max_connection_wait_time = LONGEST_WAIT
    _clock_pid = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("maintenance_interval", MAINTENANCE)
        super().__init__(*args, **kwargs)
        self.queue_class = type("Queue", (_QueueOfOurs, self.queue_class), {})
        self.queues = [self._queue(queue) for queue in self.queues]
        self._ordered_queues = self.queues[:]

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """Work until told to stop; a Redis that goes away meanwhile does not end it."""
        jobs.STOP.clear()
        jobs.set_queues([name for name in self.queue_names() if conf.owns_queue(name)])
        preload()
        self.log.addFilter(_NoRingLines())
        self._start_clock()
        bounded = any(kwargs.get(name) for name in ("burst", "max_jobs", "max_idle_time"))
        worked = False
        wait = 1.0
        try:
            while True:
                began = time.monotonic()
                try:
                    worked |= super().work(*args, **kwargs)
                except (RedisError, OSError) as error:
                    logger.error("Redis is away: %s", type(error).__name__)
                if bounded or self._shutdown_requested_date is not None:
                    return worked
                wait = 1.0 if time.monotonic() - began > 60 else min(wait * 2, LONGEST_WAIT)
                logger.warning("working again in %.0f s", wait)
                time.sleep(wait)
                self.name = uuid.uuid4().hex  # the old name may still be registered
        finally:
            self._stop_clock()

    def clean_group_registries(self) -> None:
        """Groups are the host's; reading them unpickles, so a worker of ours alone does not."""
        if not all(conf.owns_queue(name) for name in self.queue_names()):
            super().clean_group_registries()

    def _start_scheduler(self, *args: Any, **kwargs: Any) -> None:
        """RQ's scheduler is for the host's queues only."""
        everything = self.queues
        self.queues = [queue for queue in everything if not conf.owns_queue(queue.name)]
        try:
            if self.queues:
                super()._start_scheduler(*args, **kwargs)
        finally:
            self.queues = everything

    def _queue(self, queue: RQQueue) -> RQQueue:
        ours = conf.owns_queue(queue.name)
        return self.queue_class(
            queue.name,
            connection=self.connection,
            default_timeout=queue._default_timeout,
            job_class=Job if ours else queue.job_class,
            serializer=JSONSerializer if ours else queue.serializer,
            death_penalty_class=self.death_penalty_class,
        )

    # -- the clock --------------------------------------------------------------------------

    def _start_clock(self) -> None:
        queues = clock.own_queues()
        if not queues or threading.current_thread() is not threading.main_thread():
            return
        connections.close_all()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _run_clock(queues, parent)
        self._clock_pid = pid
        signal.signal(signal.SIGCHLD, self._mind_clock)

    def _mind_clock(self, signum: int, frame: FrameType | None) -> None:
        """A child ended: if it was the clock, start another."""
        if not self._clock_pid or self._is_horse:
            return
        try:
            ended, _ = os.waitpid(self._clock_pid, os.WNOHANG)
        except ChildProcessError:
            ended = self._clock_pid
        if ended:
            self._clock_pid = 0
            if self._shutdown_requested_date is None:
                logger.warning("the clock ended; starting another")
                self._start_clock()

    def _stop_clock(self) -> None:
        if self._is_horse or not self._clock_pid:
            return
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        pid, self._clock_pid = self._clock_pid, 0
        try:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            return


class Worker(_OurWorker, RQWorker):
    """The forking worker, the default: each ring is served by a fresh process."""

    _job_is_ours = False

    def fork_work_horse(self, job: RQJob, queue: RQQueue) -> None:
        """Remember whose job it is: only our horses know what SIGTERM means."""
        self._job_is_ours = isinstance(job, Job)
        connections.close_all()
        super().fork_work_horse(job, queue)

    def setup_work_horse_signals(self) -> None:
        """In the horse: SIGTERM asks to finish what is begun."""
        super().setup_work_horse_signals()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if self._job_is_ours:
            signal.signal(signal.SIGTERM, _stop)

    def handle_warm_shutdown_request(self) -> None:
        """In the parent: pass the request on to our horse."""
        super().handle_warm_shutdown_request()
        if self._job_is_ours and self.horse_pid:
            try:
                os.kill(self.horse_pid, signal.SIGTERM)
            except ProcessLookupError:
                return


class SimpleWorker(_OurWorker, RQSimpleWorker):
    """Works in its own process, without a fork for each ring."""

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Finish what is begun, then stop."""
        jobs.STOP.set()
        super().request_stop(signum, frame)


def preload() -> None:
    """Load in the parent what every forked horse needs, and no database connection."""
    for channel in conf.channels().values():
        known = [
            kind for kind in kinds.all_kinds().values() if channel.name in kind.channels
        ]
        channel.channel.preload(known)
    connections.close_all()


def _stop(signum: int, frame: FrameType | None) -> None:
    jobs.STOP.set()


def _run_clock(queues: list[str], parent: int) -> None:
    """The clock's process: ends with its parent, however that ends."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    status = 1
    try:
        clock.run(queues, stopping=lambda: os.getppid() != parent)
        status = 0
    finally:
        os._exit(status)
