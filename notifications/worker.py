"""The worker: RQ's own, made safe for our queues, with the clock as a child process.

Set once as RQ["WORKER_CLASS"]; `rqworker` and `rqworker-pool` then use it. What it adds:

* On our queues a job is JSON and only a ring (`notifications.ringjobs`): Redis is not trusted.
  The host's other queues keep RQ's serializer, Job, registries and scheduler, as they were.
* SIGTERM and SIGINT reach the horse too, which finishes what it has begun and returns the rest.
* A lost Redis is tried again every few seconds; the worker does not end.
* The parent loads modules and templates once, and holds no database connection.

A horse whose parent was killed needs no care: its slice ends within seconds, and whatever it still
settles is fenced by its claims.
"""

# mypy: allow-untyped-calls
# (many methods of RQ's that are extended here have no types)

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, Any

from django.db import Error as DatabaseError
from django.db import connections
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import SimpleWorker as RQSimpleWorker
from rq import Worker as RQWorker
from rq import worker_registration
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.utils import now, utcformat
from rq.worker import BaseWorker, WorkerStatus

from notifications import clock, conf, jobs, kinds, outbox, previews, rings, signals, vitals
from notifications.connections import NAMELESS
from notifications.kinds import Kind
from notifications.redaction import describe
from notifications.ringjobs import RingJob, RingQueue, popping

logger = logging.getLogger("notifications.worker")

TTL = 120  # seconds RQ's screens believe in a silent worker, plus RQ's own minute
LISTEN = 50  # seconds one blocking pop lasts; a hung Redis is noticed a little later
BEAT = 90.0  # seconds, at least, between the heartbeats of an idle worker
INSIST = 0.5  # seconds until an idle worker that was told to stop is told again
PAUSE = 2.0  # seconds, at most, between tries to reach Redis

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


if TYPE_CHECKING:
    Base = RQWorker  # the one of RQ's worker classes that has every method below
else:
    Base = BaseWorker


class Guarded(Base):
    """What is added to a worker class of RQ's, ahead of it among the base classes."""

    max_connection_wait_time = PAUSE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["worker_ttl"] = kwargs.get("worker_ttl") or TTL
        super().__init__(*args, **kwargs)
        self.connection.connection_pool.connection_kwargs.update(NAMELESS)
        self.queues = [
            RingQueue(queue.name, self.connection) if conf.owns_queue(queue.name) else queue
            for queue in self.queues
        ]
        self._ordered_queues = self.queues[:]
        self.queue_class = popping(self.queue_class)
        self._clock = clock.ClockProcess()
        self._vitals = vitals.VitalsProcess([queue.name for queue in self.queues])
        self._serving_ring = False
        self._beaten = 0.0

    @property
    def ring_queues(self) -> list[RingQueue]:
        """Those of its queues that are this app's."""
        return [queue for queue in self.queues if isinstance(queue, RingQueue)]

    @property
    def dequeue_timeout(self) -> int:
        """Seconds one blocking pop lasts."""
        return min(LISTEN, int(super().dequeue_timeout))

    @property
    def connection_timeout(self) -> int:
        """Seconds any answer of Redis may take; longer than a blocking pop."""
        return self.dequeue_timeout + 5

    # -- its life ---------------------------------------------------------------------------

    def work(self, burst: bool = False, *args: Any, **kwargs: Any) -> bool:
        """Work until told to stop; with `burst`, until nothing is due. Whether a job was run."""
        jobs.STOP.clear()
        self._install_signal_handlers()  # RQ does so only after its first words with Redis
        try:
            self._prepare(burst=burst)
            return bool(super().work(burst, *args, **kwargs))
        except StopRequested:  # while it was starting
            self.teardown()
            return False
        finally:
            self._clock.stop()
            self._vitals.stop()

    def _prepare(self, *, burst: bool) -> None:
        jobs.set_queues([queue.name for queue in self.ring_queues])
        self.log.addFilter(_quiet)
        preload()
        if burst:
            self._ring_due()
        else:
            self._clock.start()
            self._vitals.start()

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        """Register with Redis, as soon as it answers."""
        while True:
            try:
                super().bootstrap(*args, **kwargs)
            except RedisError as error:
                self._wait("cannot start", error)
            else:
                return

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """The next job. RQ waits for a lost connection; we also for a full or read-only Redis."""
        while True:
            try:
                return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
            except StopRequested:
                raise
            except Exception as error:
                self._wait("cannot take a job", error)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run a job. A Redis that is lost meanwhile ends neither the horse nor the worker."""
        with self._without_redis("its job's end is not recorded"):
            super().execute_job(job, queue)
        self.executions.clear()

    def teardown(self) -> None:
        """Sign off, if Redis can hear it."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        with self._without_redis("it did not sign off"):
            super().teardown()

    # -- stopping ---------------------------------------------------------------------------

    def handle_warm_shutdown_request(self) -> None:
        """SIGTERM or SIGINT: finish what is begun, return the rest, take nothing new."""
        super().handle_warm_shutdown_request()
        jobs.STOP.set()  # for a worker without horses, and for a horse forked just now
        self._tell_horse()
        if self.get_state() != WorkerStatus.BUSY:
            signal.signal(signal.SIGALRM, self._insist)
            signal.setitimer(signal.ITIMER_REAL, INSIST, INSIST)

    def _insist(self, signum: int, frame: FrameType | None) -> None:
        """Raise what RQ's handler of the signal has raised, until it is heard: redis-py swallows
        every exception where it measures itself, which is around each command."""
        if self.get_state() != WorkerStatus.BUSY:
            raise StopRequested

    def set_shutdown_requested_date(self) -> None:
        """For RQ's screens. Called by a signal handler, where an error would hit anything."""
        with self._without_redis("its stopping is not recorded"):
            super().set_shutdown_requested_date()

    def _tell_horse(self) -> None:
        if self._serving_ring and self.horse_pid:
            try:
                os.kill(self.horse_pid, signal.SIGTERM)
            except ProcessLookupError:
                return

    # -- the horse --------------------------------------------------------------------------

    def prepare_execution(self, job: Job) -> Execution:
        """In the parent: record that a job begins. Should everything die, a ring's record expires
        (RQ's would stay)."""
        if isinstance(job, RingJob):
            with self.connection.pipeline() as pipeline:
                job.prepare_for_execution(self.name, pipeline=pipeline)
                pipeline.expire(job.key, rings.KEPT)
                pipeline.execute()
        return super().prepare_execution(job)

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Fork the process that runs one job."""
        self._serving_ring = isinstance(job, RingJob)
        connections.close_all()
        # Held back until the horse has its own handlers: it must not run its parent's.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            super().fork_work_horse(job, queue)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def setup_work_horse_signals(self) -> None:
        """In the horse. Only ours knows what SIGTERM means; the host's dies of it, as with RQ."""
        super().setup_work_horse_signals()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if self._serving_ring:
            signal.signal(signal.SIGTERM, _stop_serving)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        """In the horse. For ours the parent has done it, whose connection to Redis is open."""
        if isinstance(job, RingJob):
            self.procline(f"Serving {', '.join(queue.name for queue in self.ring_queues)}")
        else:
            super().prepare_job_execution(job, remove_from_intermediate_queue)

    def perform_job(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """Run the job's function and settle the job."""
        done = super().perform_job(job, queue, execution)
        if self.is_horse:
            rings.flush()  # RQ ends horses without the farewell that other processes have
        return bool(done)

    def handle_job_success(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: StartedJobRegistry,
        execution: Execution,
    ) -> None:
        """A job of ours leaves nothing behind; RQ spends eight round trips to find that out."""
        if isinstance(job, RingJob):
            self._forget(job, execution)
        else:
            super().handle_job_success(job, queue, started_job_registry, execution)

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: StartedJobRegistry | None = None,
        exc_string: str = "",
        execution: Execution | None = None,
    ) -> None:
        """Nor does a ring that fails: what it rang for is due all the same."""
        if isinstance(job, RingJob) and job.is_ring:
            self._forget(job, execution, failed=True)
        else:
            super().handle_job_failure(job, queue, started_job_registry, exc_string, execution)

    def _forget(self, job: RingJob, execution: Execution | None, *, failed: bool = False) -> None:
        with self.connection.pipeline() as pipeline:
            if failed:
                self.increment_failed_job_count(pipeline)
            else:
                self.increment_successful_job_count(pipeline)
            if job.started_at and job.ended_at:
                self.increment_total_working_time(job.ended_at - job.started_at, pipeline)
            self.cleanup_execution(job, pipeline, execution)
            pipeline.delete(job.key, job.execution_registry.key)
            pipeline.execute()

    # -- what RQ keeps in Redis -------------------------------------------------------------

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Tell RQ's screens that it lives; also again after Redis was emptied."""
        if pipeline is not None:
            super().heartbeat(timeout, pipeline)
            return
        if time.monotonic() - self._beaten < BEAT:
            return
        with self._without_redis("its heartbeat is late"):
            self.last_heartbeat = now()
            beat = self.connection.pipeline(transaction=False)
            beat.hset(self.key, "last_heartbeat", utcformat(self.last_heartbeat))
            beat.expire(self.key, timeout or self.worker_ttl + 60)
            if beat.execute()[0]:
                self._register_again()
            self._beaten = time.monotonic()

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Tell RQ's screens that the horse lives."""
        with self._without_redis("its heartbeat is late"):
            super().maintain_heartbeats(job, execution)

    def set_state(self, state: str, pipeline: Pipeline | None = None) -> None:
        """For RQ's screens."""
        if pipeline is not None:
            super().set_state(state, pipeline)
        elif state != self._state:
            with self._without_redis("its state is not shown"):
                super().set_state(state)
            self._state = state

    def check_for_suspension(self, burst: bool) -> None:
        """RQ's own pause of everything on this Redis (ours is for each queue)."""
        with self._without_redis("it may be suspended"):
            super().check_for_suspension(burst)

    def run_maintenance_tasks(self) -> None:
        """Clean RQ's registries: RQ's way for the host's queues, our way for ours."""
        everything = self.queues
        self.last_cleaned_at = now()  # type: ignore[assignment]  # as RQ itself does
        try:
            self.queues = [queue for queue in everything if not isinstance(queue, RingQueue)]
            if self.queues:
                super().run_maintenance_tasks()
            for queue in everything:
                if isinstance(queue, RingQueue):
                    _sweep(queue)
        except StopRequested:
            raise
        except Exception as error:  # a job that cannot be read must not stop the others
            logger.warning("maintenance was cut short: %s", type(error).__name__)
        finally:
            self.queues = everything

    def _start_scheduler(self, *args: Any, **kwargs: Any) -> None:
        """RQ's scheduler is for the host's queues: ours have the clock."""
        everything = self.queues
        self.queues = [queue for queue in everything if not isinstance(queue, RingQueue)]
        try:
            if self.queues:
                super()._start_scheduler(*args, **kwargs)
        finally:
            self.queues = everything

    def _register_again(self) -> None:
        with self.connection.pipeline() as pipeline:
            pipeline.hset(self.key, mapping={**self.serialize(), "state": self._state})
            worker_registration.register(self, pipeline)
            pipeline.execute()

    # -- parts ------------------------------------------------------------------------------

    def _ring_due(self) -> None:
        """A burst serves what is due, although its rings may be lost."""
        try:
            clock.tick([queue.name for queue in self.ring_queues])
        except Exception as error:
            logger.warning("cannot look for due rows: %s", type(error).__name__)
        finally:
            connections.close_all()

    def _wait(self, what: str, error: Exception) -> None:
        logger.error("%s: %s: %s; trying again", what, type(error).__name__, error)
        time.sleep(PAUSE)

    @contextmanager
    def _without_redis(self, what: str) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            logger.warning("the worker goes on without Redis (%s): %s", type(error).__name__, what)


class Worker(Guarded, RQWorker):
    """The forking worker, the default: each ring is served by a fresh process."""


class SimpleWorker(Guarded, RQSimpleWorker):
    """Works in its own process, without a fork for each ring."""

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run a job, in which a transaction must not be cut off by a new clock."""
        with self._clock.left_alone():
            super().execute_job(job, queue)


@cache
def guard(worker_class: type[BaseWorker]) -> type[BaseWorker]:
    """`worker_class` with all that a worker of ours has; itself if it is one already."""
    if issubclass(worker_class, Guarded):
        return worker_class
    return type(f"Guarded{worker_class.__name__}", (Guarded, worker_class), {})


def preload() -> None:
    """Load in the parent what every forked horse needs, and leave no database connection open."""
    for channel in conf.channels().values():
        known = [
            kind for kind in kinds.all_kinds().values() if channel.name in kind.channel_names()
        ]
        channel.channel.preload(known)
        for kind in known:
            _rehearse(kind, channel.name)
    try:
        outbox.due_queues(clock.own_queues())  # loads what the ORM loads with its first query
    except DatabaseError as error:
        signals.error.tell(where="worker", error=type(error).__name__)
    for connection in connections.all(initialized_only=True):
        connection.close()
        if hasattr(connection, "close_pool"):  # PostgreSQL's; its threads would not survive a fork
            connection.close_pool()
    # What is loaded now stays: horses then do not copy its pages just to count references.
    gc.collect()
    gc.freeze()


def _rehearse(kind: type[Kind], channel: str) -> None:
    """Compose a sample, for all that Django loads with the first: formats, translations."""
    try:
        previews.preview_kind(kind, channel)
    except Exception as error:  # not every kind has a sample
        logger.debug("no sample of %s on %s: %s", kind.name, channel, describe(error))


def _sweep(queue: RingQueue) -> None:
    """Remove what dead workers and refused jobs leave; their hashes expire on their own."""
    connection = queue.connection
    before = time.time()
    with connection.pipeline(transaction=False) as pipeline:
        for registry in (StartedJobRegistry, FailedJobRegistry):
            pipeline.zremrangebyscore(registry(queue.name, connection).key, 0, before)
        pipeline.execute()
    worker_registration.clean_worker_registry(queue)


def _stop_serving(signum: int, frame: FrameType | None) -> None:
    jobs.STOP.set()


class _QuietRings(logging.Filter):
    """RQ logs several lines for each job: those of rings are for debugging only."""

    _ring = re.compile(rf"\b{rings.PREFIX}[0-9a-f-]{{36}}\b")

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.INFO or not self._ring.search(record.getMessage()):
            return True
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


_quiet = _QuietRings()
