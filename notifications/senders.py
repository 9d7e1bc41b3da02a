"""Threads that hand messages to a provider side by side, and the watch over their time.

Each thread is a *lane* with a session of its own. The threads never touch the database: they take
calls from one queue and put results into another. The thread that owns the `Senders` calls
`watch` now and then: a call that takes longer than the provider's timeout *in all* (the timeouts
of libraries are per read, and a dripping server resets them for ever) loses its socket and its
lane, and is recorded as unknown if it had begun. A call that could not end before its deadline does
not begin: it waits behind slow ones in a lane, or was looked ahead for, and is turned back.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from notifications.message import Outcome, Verdict
from notifications.providers.base import Provider, Session
from notifications.redaction import describe, safe_traceback

logger = logging.getLogger("notifications.senders")

GOODBYE = 1.0  # seconds the lanes have to close their connections


class LaneClosed(Exception):
    """Raised in a lane's thread when the watch has taken its calls away."""


class TooLate(Exception):
    """Raised in a lane's thread for a message that can no longer end in time; it must not go."""


@dataclass(eq=False, slots=True)
class Call:
    """One message on its way to one provider."""

    owner: Any  # whoever gets the result
    row: Any  # its Notification
    message: Any
    provider: Provider[Any]
    deadline: float = math.inf  # monotonic; after it the call must not begin
    begun: bool = False

    @property
    def late(self) -> bool:
        """Whether it must not begin any more."""
        return time.monotonic() > self.deadline


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a call."""

    call: Call
    outcome: Outcome
    milliseconds: int


class Senders:
    """The lanes to one provider; made by, and used from, one thread."""

    def __init__(
        self, provider: Provider[Any], *, lanes: int, results: SimpleQueue[Result | None]
    ) -> None:
        self.provider = provider
        self.results = results
        self.inbox: SimpleQueue[Call | None] = SimpleQueue()
        self.turned_back: SimpleQueue[Call | None] = SimpleQueue()  # too late to begin
        self.most = lanes
        self.idle = 0  # lanes waiting for a call; a hint, read without a lock
        self._lanes: list[_Lane] = []

    def submit(self, call: Call) -> None:
        """Send `call` on the next free lane; its result comes through `results`."""
        call.begun = False
        self.inbox.put(call)
        self._open_lane()

    def _open_lane(self) -> None:
        """Start one more lane if calls wait for one."""
        if len(self._lanes) < self.most and self.idle < self.inbox.qsize():
            lane = _Lane(self)
            try:
                lane.start()
            except RuntimeError:  # no thread is left: the others take one call more
                if not self._lanes:
                    raise
            else:
                self._lanes.append(lane)

    def recall(self) -> list[Call]:
        """Take back the calls that no lane has taken yet, or that were turned back."""
        return [*_drain(self.inbox), *_drain(self.turned_back)]

    def watch(self) -> list[Call]:
        """End the calls whose time is over; those that were too late to begin."""
        for lane in [lane for lane in self._lanes if lane.overdue(self.provider.timeout)]:
            self._lanes.remove(lane)  # first: what it gives back may need a lane
            lane.abandon()
            self._open_lane()  # so may what it had not taken yet
        return _drain(self.turned_back)

    def close(self) -> None:
        """Let the lanes finish their connections, and leave behind those that do not."""
        for _ in self._lanes:
            self.inbox.put(None)
        until = time.monotonic() + GOODBYE
        for lane in self._lanes:
            lane.thread.join(max(0.0, until - time.monotonic()))
        self._lanes.clear()


def _drain(queue: SimpleQueue[Call | None]) -> list[Call]:
    calls: list[Call] = []
    while True:
        try:
            call = queue.get_nowait()
        except Empty:
            return calls
        if call is not None:
            calls.append(call)


class _Lane:
    """One thread and its session. `_lock` guards what the watch also touches."""

    def __init__(self, senders: Senders) -> None:
        self._senders = senders
        self._lock = threading.Lock()
        self._calls: list[Call] = []  # taken and not reported, oldest first
        self._kept: Call | None = None  # it waits for a session to be connected
        self._since = 0.0  # monotonic start of the oldest call's time, connecting included
        self._abandoned = False
        self._session: Session[Any] | None = None
        self._closed = False
        # A daemon: a provider that hangs must not keep the process from ending.
        self.thread = threading.Thread(
            target=self._run, name=f"lane-{senders.provider.name}", daemon=True
        )

    def start(self) -> None:
        self.thread.start()

    # -- what the session calls (providers.base.Lane) ---------------------------------------

    def take(self, *, wait: bool = True) -> Any | None:
        with self._lock:
            if self._abandoned:
                raise LaneClosed
            call, self._kept = self._kept, None
            if call is not None:
                self._calls.append(call)
                return call.message
        call = self._next(wait=wait)
        if call is None:
            self._closed = wait
            return None
        with self._lock:
            if self._abandoned:
                self._senders.inbox.put(call)
                raise LaneClosed
            if not self._calls:
                self._since = time.monotonic()
            self._calls.append(call)
        return call.message

    def begin(self, message: Any) -> None:
        with self._lock:
            if self._abandoned:
                raise LaneClosed
            call = self._find(message)
            if call.late:
                self._calls.remove(call)
                self._senders.turned_back.put(call)
                raise TooLate
            call.begun = True

    def report(self, message: Any, outcome: Outcome) -> None:
        if not isinstance(outcome, Outcome):  # a provider's mistake, which mypy would have found
            given = type(outcome).__name__
            outcome = Outcome(Verdict.UNKNOWN, text=f"its session gave no Outcome but a {given}")
        with self._lock:
            if self._abandoned:
                raise LaneClosed
            call = self._find(message)
            self._calls.remove(call)
            now = time.monotonic()
            took, self._since = now - self._since, now
        self._senders.results.put(Result(call, outcome, int(took * 1000)))

    def give_back(self, message: Any) -> None:
        with self._lock:
            if self._abandoned:
                raise LaneClosed
            call = self._find(message)
            self._calls.remove(call)
        self._senders.inbox.put(call)

    # -- what the watch calls ---------------------------------------------------------------

    def overdue(self, timeout: float) -> bool:
        with self._lock:
            waiting = bool(self._calls) or self._kept is not None
            return waiting and time.monotonic() - self._since > timeout

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            calls = self._take_all()
        if self._session is not None:
            with self._forgiving("abort"):
                self._session.abort()
        timeout = self._senders.provider.timeout
        for place, call in enumerate(calls):
            if place > 0 and not call.begun:
                self._senders.submit(call)
                continue
            verdict = Verdict.UNKNOWN if call.begun else Verdict.LATER
            outcome = Outcome(
                verdict, code="deadline", text=f"no answer within {timeout:g} s", theirs=True
            )
            self._senders.results.put(Result(call, outcome, int(timeout * 1000)))

    # -- the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            if self._kept is None:
                call = self._next(wait=True)
                if call is None:
                    return
                with self._lock:
                    self._kept, self._since = call, time.monotonic()
            try:
                self._session = self._senders.provider.connect()
                self._session.work(self)
            except LaneClosed:
                return
            except TooLate:
                self._leave()
            except Exception as error:
                self._fail(error)
            finally:
                if self._session is not None:
                    with self._forgiving("close"):
                        self._session.close()
                    self._session = None
            if self._abandoned or self._closed:
                return

    def _next(self, *, wait: bool) -> Call | None:
        """The next call that may begin; None when the lane closes, or none waits."""
        while (call := self._get(wait=wait)) is not None and call.late:
            self._senders.turned_back.put(call)
        return call

    def _get(self, *, wait: bool) -> Call | None:
        inbox = self._senders.inbox
        try:
            call = inbox.get_nowait()
        except Empty:
            if not wait:
                return None
        else:
            if call is None and not wait:
                inbox.put(None)  # the end is for a lane that waits for it
            return call
        self._senders.idle += 1
        try:
            return inbox.get()
        finally:
            self._senders.idle -= 1

    def _fail(self, error: Exception) -> None:
        """Report the calls a broken session leaves behind."""
        outcome = self._judge(error)
        with self._lock:
            if self._abandoned:
                return
            calls = self._take_all()
        for place, call in enumerate(calls):
            if place > 0 and not call.begun:
                self._senders.inbox.put(call)
                continue
            mine = outcome
            if mine.verdict is Verdict.UNKNOWN and not call.begun:
                mine = Outcome(
                    Verdict.LATER, code=mine.code, text=mine.text, error=mine.error, theirs=True
                )
            self._senders.results.put(Result(call, mine, 0))

    def _leave(self) -> None:
        """End a session in the middle of a message that must not go on. It says no goodbye, which
        could be taken for a part of the message."""
        if self._session is not None:
            with self._forgiving("abort"):
                self._session.abort()
        with self._lock:
            calls = self._take_all()
        for call in calls:
            if call.begun:
                outcome = Outcome(Verdict.UNKNOWN, text="its session ended before the answer")
                self._senders.results.put(Result(call, outcome, 0))
            else:
                self._senders.inbox.put(call)

    @contextmanager
    def _forgiving(self, what: str) -> Iterator[None]:
        """A session that fails here is of no use any more, and the messages go on without it."""
        try:
            yield
        except Exception as error:
            name = self._senders.provider.name
            logger.warning("a session of %s failed to %s: %s", name, what, type(error).__name__)

    def _judge(self, error: Exception) -> Outcome:
        try:
            return self._senders.provider.judge(error)
        except Exception as worse:
            name = self._senders.provider.name
            logger.error("provider %s could not judge an error: %s", name, safe_traceback(worse))
            return Outcome(Verdict.UNKNOWN, text=describe(worse), error=type(error).__qualname__)

    def _take_all(self) -> list[Call]:
        """The calls that nothing has come of yet. To be called with the lock."""
        calls = self._calls if self._kept is None else [*self._calls, self._kept]
        self._calls, self._kept = [], None
        return calls

    def _find(self, message: Any) -> Call:
        return next(call for call in self._calls if call.message is message)
