"""Callbacks to an application, posted when their time has come."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Mapping
from http.client import HTTPException
from itertools import count
from urllib.request import Request, urlopen

TRIES = 5  # of one callback that is not answered with 200
PAUSE = 0.2  # seconds between them
TIMEOUT = 5.0  # seconds of one


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
