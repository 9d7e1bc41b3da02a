"""A time limit for code that runs on the main thread, inside RQ's own."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from notifications.errors import TaskTimeout

AGAIN = 1.0  # seconds after which it strikes once more


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TaskTimeout in the block after `seconds`, and again every second that it still runs:
    what is raised inside a finaliser or a bare `except` comes to nothing.

    RQ's job timeout uses the same alarm. If that is nearer the block ends then; what is left of it
    is put back afterwards. Off the main thread, where Python delivers no signals, there is no
    limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    struck = False

    def strike(signum: int, frame: FrameType | None) -> None:
        nonlocal struck
        struck = True
        if limit < seconds:
            raise TaskTimeout("the time of the job it ran in was over")
        raise TaskTimeout(f"the task ran longer than {seconds:g} s")

    began = time.monotonic()
    outer, every = signal.getitimer(signal.ITIMER_REAL)
    limit = min(seconds, outer or seconds)
    former = signal.signal(signal.SIGALRM, strike)
    try:
        signal.setitimer(signal.ITIMER_REAL, limit, AGAIN)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        if outer:
            left = outer - (time.monotonic() - began)
            # At once, it would interrupt the caller who writes down what ended the block.
            signal.setitimer(signal.ITIMER_REAL, max(left, AGAIN if struck else 0.001), every)
