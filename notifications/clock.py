"""The clock: looks at the database now and then, rings queues with due rows, starts schedules.

It is what makes rings expendable. Any number may run, on any machine, with any local time: what
is due is the database's business, and a schedule's slot is won by one of them. Every worker of
ours has one as a child process (`ClockProcess`).
"""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from django.db import Error as DatabaseError
from django.db import connections
from redis.exceptions import RedisError

from notifications import (
    alerts,
    conf,
    health,
    holds,
    hostjobs,
    inbox,
    outbox,
    receipts,
    reporting,
    rings,
    signals,
    tallies,
    tasks,
)
from notifications.connections import quick_redis
from notifications.redaction import safe_traceback

logger = logging.getLogger("notifications.clock")

LONGEST_PAUSE = 5.0  # seconds between tries while the database or Redis is away
STUCK = 30  # seconds one look at the database may take in the clock's own process
BRIEF = 5.0  # seconds; after a clock that lived shorter the next one waits before it ticks

_ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)


def tick(queues: Sequence[str]) -> list[str]:
    """Start due schedules, deliver what needs no provider, apply early receipts, lift holds whose
    time is over, and ring those of `queues` that have due rows; the ones rung.

    Raises what the database and Redis raise; a chore that fails keeps nothing from being rung.
    """
    failure: Exception | None = None
    for chore in (tasks.tick_schedules, inbox.deliver_due, receipts.sweep, holds.lift_expired):
        try:
            chore()
        except Exception as error:
            failure = failure or error
    due = outbox.due_queues(queues)
    for queue in due:
        rings.ring_now(queue, quick_redis(queue))
    if failure is not None:
        raise failure
    return due


class Chore:
    """What a clock does every so many seconds, the first time `first` seconds after its start."""

    def __init__(self, do: Callable[[], object], *, every: float, first: float = 0.0) -> None:
        self._do = do
        self._every = every
        self._next = time.monotonic() + first

    def step(self) -> None:
        """Do it if it is time to. Raises what it raises."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every
            self._do()


def chores(queues: Sequence[str]) -> list[Chore]:
    """What the clock of `queues` does beside ticking."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    all_of_them = [
        Chore(lambda: health.beat(name, queues), every=health.BEAT),
        # Not at once: after a start workers are still on their way.
        Chore(lambda: health.tell(health.examine()), every=health.LOOK, first=health.LOOK),
        Chore(tallies.count_new, every=tallies.STEP),
        Chore(hostjobs.find, every=hostjobs.LOOK),
    ]
    if every := conf.get("REPORT"):
        reporter = reporting.Reporter()
        all_of_them.append(Chore(lambda: reporter.report(queues), every=float(every)))
    return all_of_them


def run(queues: Sequence[str], *, stopping: Callable[[], bool]) -> None:
    """Tick until `stopping()`; never raises for a lost database or Redis."""
    pause = period = float(conf.get("CLOCK"))
    messenger, everything = alerts.Messenger(), chores(queues)
    while not stopping():
        try:
            # The connection stays open from tick to tick, whatever CONN_MAX_AGE says.
            tick(queues)
            for chore in everything:
                chore.step()
            pause = period
        except (DatabaseError, RedisError, OSError) as error:
            signals.error.tell(where="clock", error=type(error).__name__)
            connections.close_all()
            pause = min(pause * 2, LONGEST_PAUSE)
        except Exception as error:
            signals.error.tell(where="clock", error=type(error).__name__)
            logger.error("the clock failed: %s", safe_traceback(error))
            connections.close_all()
            pause = LONGEST_PAUSE
        # After the tick and whatever became of it: without Redis there is something to tell.
        messenger.step()
        # A little apart, so that many clocks do not march in step.
        _sleep(pause * random.uniform(0.8, 1.0), stopping)


def own_queues() -> list[str]:
    """The queues of RQ_QUEUES that are this app's."""
    return [name for name in conf.queue_names() if conf.owns_queue(name)]


class ClockProcess:
    """The clock as a child of this process: started anew when it dies, gone when we are.

    SIGCHLD tells of its death, so nothing polls. Used from the main thread, as signals are.
    """

    def __init__(self) -> None:
        self.pid = 0  # 0: none runs
        self._parent = 0
        self._born = 0.0
        self._brief = 0  # clocks in a row that died young
        self._left_alone = False
        self._missing = False  # it died while it was to be left alone

    def start(self) -> None:
        """Fork the clock, and watch over it from now on."""
        self._parent = os.getpid()
        signal.signal(signal.SIGCHLD, self._child_ended)
        self._fork()

    @contextmanager
    def left_alone(self) -> Iterator[None]:
        """A block in which no clock is started: forking closes the database connections, and this
        process may be in a transaction."""
        self._left_alone = True
        try:
            yield
        finally:
            self._left_alone = False
            if self._missing:
                self._missing = False
                self._fork()

    def stop(self) -> None:
        """End the clock."""
        if not self.pid or os.getpid() != self._parent:
            return
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        pid, self.pid = self.pid, 0
        try:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            return

    def _fork(self) -> None:
        connections.close_all()  # sockets must not be shared with the child
        self._born = time.monotonic()
        # Held back meanwhile: the child must not run the parent's handlers.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _live(parent=self._parent, delay=min(LONGEST_PAUSE, float(self._brief)))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def _child_ended(self, signum: int, frame: object) -> None:
        if not self.pid or os.getpid() != self._parent:
            return
        try:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else has waited for it
            ended, status = self.pid, 0
        if ended:
            lived = time.monotonic() - self._born
            self._brief = self._brief + 1 if lived < BRIEF else 0
            code = os.waitstatus_to_exitcode(status)
            logger.warning("the clock ended (exit code %d); starting another", code)
            if self._left_alone:
                self.pid, self._missing = 0, True
            else:
                self._fork()


def _live(*, parent: int, delay: float) -> None:
    """The whole life of the clock's process; never returns."""

    def orphaned() -> bool:
        # Asked before every tick, so it also winds up the alarm that ends a clock which hangs in
        # the database (a dead network answers nothing for a quarter of an hour).
        signal.alarm(STUCK)
        return os.getppid() != parent

    status = 1
    try:
        # Ctrl-C reaches all processes of a terminal; the parent then ends this one.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _sleep(delay, orphaned)
        run(own_queues(), stopping=orphaned)
        status = 0
    finally:
        os._exit(status)


def _sleep(seconds: float, stopping: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not stopping() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.5))
