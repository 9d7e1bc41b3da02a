"""What the tests' workers run."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from notifications import clock
from notifications.tasks import current_task, task


@task
def leave(trace: str, word: str = "") -> None:
    """Append a line to the file `trace`: the word, the process and its parent, and the time."""
    line = f"{word or 'x'} {os.getpid()} {os.getppid()} {time.monotonic()}\n"
    with Path(trace).open("a") as file:
        file.write(line)


@task(atomic=False)
def linger(trace: str, seconds: float, word: str = "") -> None:
    """Leave a trace, take a while, leave another."""
    leave(trace, f"begin-{word}")
    time.sleep(seconds)
    leave(trace, f"end-{word}")


@task(atomic=False, timeout=1.0)
def forgive(trace: str) -> None:
    """Go on for ever, whatever is raised."""
    leave(trace, "begin")
    while True:
        with suppress(Exception):
            time.sleep(0.05)


@task
def fail_twice(trace: str) -> None:
    """Succeed at the third attempt."""
    leave(trace, "try")
    row = current_task()
    if row is not None and row.attempts < 2:
        raise RuntimeError("not yet")


if os.environ.get("PROBE_SCHEDULE"):

    @task(schedule=timedelta(seconds=1))
    def leave_on_schedule() -> None:
        """Leave a trace every second."""
        leave(os.environ["PROBE_SCHEDULE"], "slot")


if os.environ.get("PROBE_STUCK"):
    _tick = clock.tick
    clock.STUCK = 1

    def _tick_or_hang(queues: Sequence[str]) -> list[str]:
        """Hang once, as a clock does when the network to its database dies."""
        marker = Path(os.environ["PROBE_STUCK"])
        if not marker.exists():
            marker.touch()
            time.sleep(60)
        return _tick(queues)

    clock.tick = _tick_or_hang
