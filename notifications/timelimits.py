"""A time limit for code that runs on the main thread, inside RQ's own."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from notifications.errors import TaskTimeout


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TaskTimeout in the block after `seconds`.

    RQ's job timeout uses the same alarm: its remaining time is put back afterwards. Off the main
    thread, where Python delivers no signals, there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def strike(signum: int, frame: FrameType | None) -> None:
        raise TaskTimeout(f"the task ran longer than {seconds:g} s")

    began = time.monotonic()
    former = signal.signal(signal.SIGALRM, strike)
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        if outer:
            left = outer - (time.monotonic() - began)
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001))
