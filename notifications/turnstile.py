"""How often a stranger may ask, by address.

Counted in this process, and not in Django's cache: that may be the very Redis which somebody asks
about, and it must not keep anybody waiting.
"""

from __future__ import annotations

import threading
import time

from django.http import HttpRequest

from notifications import conf

MOST = 10_000  # addresses that are told apart at once


class Turnstile:
    """Lets each address through so often in each stretch of time; `setting` names its rate, which
    stands in NOTIFICATIONS["HEALTH"]."""

    def __init__(self, setting: str) -> None:
        self._setting = setting
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Let everybody through again."""
        self._began = time.monotonic()
        self._counts: dict[str, int] = {}

    def wait(self, request: HttpRequest) -> float:
        """Seconds until the one who asks may ask; 0 for now."""
        rate = conf.parse_rate(conf.get("HEALTH")[self._setting])
        if rate is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            if now - self._began >= rate.seconds:
                self.reset()
            address = address_of(request)
            if address not in self._counts and len(self._counts) >= MOST:
                address = ""  # all others share what one has
            self._counts[address] = self._counts.get(address, 0) + 1
            left = self._began + rate.seconds - now
            return left if self._counts[address] > rate.limit else 0.0


def address_of(request: HttpRequest) -> str:
    """Where a request comes from: as the nearest proxy says, or the other end of the line.

    Where no proxy stands in front, whoever asks may write there what they like. They then get
    through, to an answer that is kept ready.
    """
    forwarded = str(request.META.get("HTTP_X_FORWARDED_FOR", ""))
    return forwarded.rpartition(",")[2].strip()[:64] or str(request.META.get("REMOTE_ADDR", ""))


health = Turnstile("RATE")  # of health/, wherever it is mounted
