"""Servers that take messages, and report to the application what becomes of them."""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from itertools import count
from types import TracebackType
from typing import Generic, Self, TypeVar
from urllib.request import Request, urlopen

from notifications.testing.http_server import Answer, HttpServer

TRIES = 5  # of one callback that is not answered with 200
PAUSE = 0.2  # seconds between them
TIMEOUT = 5.0  # seconds of one


A = TypeVar("A", bound=Answer)
M = TypeVar("M")


class ReportingServer(HttpServer[A], Generic[A, M]):
    """Keeps the messages it takes, and posts callbacks while its `with` block lasts."""

    def __init__(
        self,
        *,
        port: int = 0,
        answers: Sequence[A] = (),
        callback_url: str = "",
        delivered_after: float = 0.2,
        on_message: Callable[[M], object] | None = None,
    ) -> None:
        """`answers` are looked through in their order at each request. `delivered_after` is in
        seconds after the acceptance. `on_message` is called with each message taken, in one of the
        server's threads.
        """
        super().__init__(port=port, answers=answers)
        self.callback_url = callback_url
        self.delivered_after = delivered_after
        self.on_message = on_message
        self.accepted: list[M] = []
        self.deliveries: Counter[str] = Counter()  # messages by what the sender calls them
        self.reporter = Reporter()

    def __enter__(self) -> Self:
        self.reporter.start()
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.reporter.stop()
        super().__exit__(kind, error, trace)

    def wait_for(self, number: int, *, seconds: float = 10.0) -> list[M]:
        """The accepted messages, once there are `number`. Raises TimeoutError."""
        with self.arrived:
            if not self.arrived.wait_for(lambda: len(self.accepted) >= number, timeout=seconds):
                raise TimeoutError(f"{len(self.accepted)} of {number} messages after {seconds} s")
            return list(self.accepted)

    def take(self, message: M, name: str) -> None:
        """Keep a message, which its sender calls `name`."""
        with self.arrived:
            self.accepted.append(message)
            self.deliveries[name] += 1
            self.arrived.notify_all()
        if self.on_message is not None:
            self.on_message(message)


class Reporter:
    """Posts from a thread of its own, between `start` and `stop`."""

    def __init__(self) -> None:
        self.answers: list[int] = []  # statuses that came back; 0: none came
        self._waiting: list[tuple[float, int, int, Request]] = []
        self._numbers = count()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to post."""
        self._thread.start()

    def stop(self) -> None:
        """Post no more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(timeout=TIMEOUT)

    def later(self, seconds: float, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Post `body` after that time."""
        self._push(seconds, TRIES, Request(url, body, dict(headers)))

    def _push(self, seconds: float, tries: int, request: Request) -> None:
        with self._changed:
            due = time.monotonic() + seconds
            heapq.heappush(self._waiting, (due, next(self._numbers), tries, request))
            self._changed.notify_all()

    def _run(self) -> None:
        while (due := self._next()) is not None:
            tries, request = due
            status = _post(request)
            self.answers.append(status)
            if status != 200 and tries > 1:
                self._push(PAUSE, tries - 1, request)

    def _next(self) -> tuple[int, Request] | None:
        with self._changed:
            while not self._stopped:
                wait = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if wait is not None and wait <= 0:
                    _due, _number, tries, request = heapq.heappop(self._waiting)
                    return tries, request
                self._changed.wait(wait)
        return None


def _post(request: Request) -> int:
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:
            return int(answer.status)
    except (OSError, HTTPException) as error:
        return int(getattr(error, "code", 0))
