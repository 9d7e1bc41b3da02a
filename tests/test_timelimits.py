"""Code that runs for too long is ended, whatever it does about that, and RQ's alarm still rings."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from notifications import timelimits
from notifications.errors import TaskTimeout
from notifications.timelimits import time_limit


class Alarm(Exception):
    """What RQ would raise."""


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    def ring(signum: int, frame: FrameType | None) -> None:
        raise Alarm

    tests = signal.setitimer(signal.ITIMER_REAL, 0)  # pytest-timeout's
    former = signal.signal(signal.SIGALRM, ring)
    yield
    signal.signal(signal.SIGALRM, former)
    signal.setitimer(signal.ITIMER_REAL, *tests)


def sleep(seconds: float) -> None:
    """Sleep on, whatever an `except Exception` can keep away."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(0.02)
        except Exception:
            continue


def test_it_ends_what_forgives_every_exception() -> None:
    began = time.monotonic()
    with pytest.raises(TaskTimeout, match=r"longer than 0\.2 s"), time_limit(0.2):
        sleep(3)
    assert time.monotonic() - began < 1
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_it_strikes_again_if_the_first_time_came_to_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timelimits, "AGAIN", 0.2)
    forgiven = []

    def forgive_once() -> None:
        try:
            sleep(3)
        except BaseException as error:
            forgiven.append(error)
        sleep(3)

    with pytest.raises(TaskTimeout), time_limit(0.1):
        forgive_once()
    assert len(forgiven) == 1


def test_it_leaves_the_rest_of_the_outer_alarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with time_limit(5):
        time.sleep(0.1)
    with pytest.raises(Alarm):
        time.sleep(3)


def test_many_short_blocks_do_not_put_off_the_outer_alarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    began = time.monotonic()
    with pytest.raises((Alarm, TaskTimeout)):
        take_turns(3)
    assert time.monotonic() - began < 1


def take_turns(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with time_limit(5):
            time.sleep(0.01)


def test_the_outer_alarm_ends_it_if_that_is_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timelimits, "AGAIN", 0.2)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    began = time.monotonic()
    with pytest.raises(TaskTimeout, match="the job it ran in"), time_limit(5):
        sleep(3)
    assert time.monotonic() - began < 1
    with pytest.raises(Alarm):  # in a moment: what came of the block can be written down
        time.sleep(3)


def test_off_the_main_thread_there_is_none() -> None:
    ended = []

    def run() -> None:
        with time_limit(0.01):
            time.sleep(0.1)
        ended.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(5)
    assert ended
