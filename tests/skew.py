"""A machine whose clock is wrong."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any


def skew(seconds: float) -> None:
    """Put every time of day that Python tells in this process so many seconds ahead.

    `datetime` itself is changed, not its name in some modules: whoever has it already, as
    `from datetime import datetime` gives it, has the wrong time too. Monotonic time is left alone,
    as a clock that is set wrong leaves it.
    """
    real_time, real_ns, real_now = time.time, time.time_ns, datetime.now
    difference = timedelta(seconds=seconds)

    def now(cls: type[datetime], tz: tzinfo | None = None) -> datetime:
        moment = real_now(UTC) + difference
        return moment.astimezone(tz) if tz else moment.astimezone().replace(tzinfo=None)

    def utcnow(cls: type[datetime]) -> datetime:
        return (real_now(UTC) + difference).replace(tzinfo=None)

    time.time = lambda: real_time() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)
    for name in ("gmtime", "localtime", "ctime"):
        setattr(time, name, _told(getattr(time, name)))
    [methods] = gc.get_referents(vars(datetime))  # of a type in C, and thus not to be assigned to
    methods |= {"now": classmethod(now), "utcnow": classmethod(utcnow)}
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime))
    _prove(real_time() + seconds)
    sys.stderr.write(f"this clock is {seconds:+g} s wrong: {datetime.now(UTC)}\n")


def _told(convert: Callable[[float], Any]) -> Callable[..., Any]:
    """`time.gmtime` and the like, which without an argument ask the real clock."""
    return lambda moment=None: convert(time.time() if moment is None else moment)


def _prove(told: float) -> None:
    """Raise AssertionError unless every source tells this time."""
    for each in (
        time.time(),
        time.time_ns() / 1e9,
        datetime.now().timestamp(),
        datetime.now(UTC).timestamp(),
        datetime.utcnow().replace(tzinfo=UTC).timestamp(),
        datetime.today().timestamp(),
        time.mktime(time.localtime()) + 0.5,
    ):
        assert abs(each - told) < 1.5, (each, told)
    assert date.today() == datetime.now().date()
