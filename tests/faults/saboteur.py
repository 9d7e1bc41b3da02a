"""`manage.py` for a worker that is killed at a chosen point: `python -m tests.faults.saboteur
POINT KILLS rqworker …`.

The process kills itself with SIGKILL when it reaches POINT, as often as KILLS (the path of a
`tests.faults.kills.Kills`) allows. Nothing is simulated: whatever the kernel and the servers do
when a process is killed there, they do.
"""

from __future__ import annotations

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

from tests.faults.database import Database
from tests.faults.kills import Kills

POISON = "customer1@example.com"  # whose messages nobody survives composing, at that point


def die(kills: Kills) -> None:
    """Kill this process, if a kill is left."""
    # A connection of its own: it sees what is committed, as who comes after the kill will.
    if kills.take(Database(os.environ["DATABASE_URL"])):
        os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, act: Callable[..., None]) -> None:
    """Call `act` with the arguments of `owner.name` whenever that is about to run."""
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        act(*args)
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def after(owner: Any, name: str, act: Callable[..., None]) -> None:
    """Call `act` with the arguments of `owner.name` and what it returned."""
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        act(*args, result)
        return result

    setattr(owner, name, wrapped)


def sabotage(point: str, kills: Kills) -> None:
    """Arm one point."""
    from notifications import outbox  # after django.setup()
    from notifications.delivery import Delivery
    from notifications.kinds import get_kind
    from notifications.models import Notification
    from notifications.senders import Senders
    from notifications.worker import SimpleWorker, Worker

    def kill(*_ignored: Any) -> None:
        die(kills)

    def kill_with_mail(rows: Any) -> None:
        if rows and isinstance(rows[0], Notification):
            die(kills)

    def kill_with_poison(rows: Any) -> None:
        if any(row.to == POISON for row in rows):
            die(kills)

    match point:
        case "pop":  # the worker has the ring and has not begun
            for worker in (Worker, SimpleWorker):
                before(worker, "execute_job", kill)
        case "claim":  # rows are claimed, none is started
            after(outbox, "claim", lambda *args: kill_with_mail(args[-1]))
        case "compose":  # contexts are loaded; there the out-of-memory killer may come
            before(get_kind("order_confirmation"), "prepare", kill_with_poison)
        case "start":  # rows are started, none is handed over
            after(outbox, "start", lambda *args: kill_with_mail(args[-1]))
        case "call":  # messages are on their way in other threads
            after(Senders, "submit", lambda *_: (time.sleep(0.005), kill()))
        case "accepted":  # the provider took one, nothing is settled
            before(Delivery, "take", kill)
        case "settle":  # in the transaction, before its first UPDATE
            before(outbox, "settle", lambda done, *_: kill_with_mail([each.row for each in done]))
        case "settled":  # after its last statement, before COMMIT
            after(outbox, "settle", lambda done, *_: kill_with_mail([each.row for each in done]))
        case _:
            raise SystemExit(f"no point {point!r}")


if __name__ == "__main__":
    django.setup()
    sabotage(sys.argv[1], Kills(Path(sys.argv[2])))
    execute_from_command_line(["manage.py", *sys.argv[3:]])
