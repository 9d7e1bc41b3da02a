"""`manage.py` for a worker that is killed at a chosen point: `python -m tests.faults.saboteur
POINT MARKER rqworker …`.

The process kills itself with SIGKILL when it reaches POINT, as often as MARKER (a file with one
line for each kill left) allows. Nothing is simulated: whatever the kernel and the servers do when
a process is killed there, they do.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import django
from django.core.management import execute_from_command_line


def may_kill(marker: Path) -> bool:
    """Take one kill off the marker; False when none is left."""
    with marker.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        left = int(file.read() or 0)
        if left <= 0:
            return False
        file.seek(0)
        file.truncate()
        file.write(str(left - 1))
    return True


def die(marker: Path) -> None:
    """Kill this process, if the marker has a kill left."""
    if may_kill(marker):
        os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, act: Callable[[], None]) -> None:
    """Call `act` whenever `owner.name` is about to run."""
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        act()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def after(owner: Any, name: str, act: Callable[[Any], None]) -> None:
    """Call `act` with what `owner.name` returned."""
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        act(result)
        return result

    setattr(owner, name, wrapped)


def sabotage(point: str, marker: Path) -> None:
    """Arm one point."""
    from notifications import outbox  # after django.setup()
    from notifications.delivery import Delivery
    from notifications.models import Notification
    from notifications.senders import Senders
    from notifications.worker import SimpleWorker, Worker

    def kill(*_ignored: Any) -> None:
        die(marker)

    def kill_with_mail(rows: Any) -> None:
        if rows and isinstance(rows[0], Notification):
            die(marker)

    match point:
        case "pop":  # the worker has the ring and has not begun
            for worker in (Worker, SimpleWorker):
                before(worker, "execute_job", kill)
        case "claim":  # rows are claimed, none is started
            after(outbox, "claim", kill_with_mail)
        case "start":  # rows are started, none is handed over
            after(outbox, "start", kill_with_mail)
        case "call":  # messages are on their way in other threads
            after(Senders, "submit", lambda _: (time.sleep(0.005), kill()))
        case "accepted":  # the provider took one, nothing is settled
            before(Delivery, "take", kill)
        case "settle":  # in the transaction, before its first UPDATE
            before(outbox, "settle", kill)
        case "settled":  # after its last statement, before COMMIT
            after(outbox, "settle", kill)
        case "skew":  # a clock that is two minutes ahead
            real = time.time
            time.time = lambda: real() + 120
        case _:
            raise SystemExit(f"no point {point!r}")


if __name__ == "__main__":
    django.setup()
    sabotage(sys.argv[1], Path(sys.argv[2]))
    execute_from_command_line(["manage.py", *sys.argv[3:]])
