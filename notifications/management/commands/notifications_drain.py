"""Deliver what is due, here and now, without Redis and without workers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandParser

from notifications import jobs, operations, signals
from notifications.management.base import OperationCommand
from notifications.management.progress import Progress


class Command(OperationCommand):
    """For emergencies, and for hosts that have only cron."""

    help = "Delivers the due rows of a queue (or runs its tasks) without Redis; Ctrl-C stops it."

    def add_arguments(self, parser: CommandParser) -> None:
        """QUEUE, --json."""
        self.add_queue(parser)
        self.add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Drain it."""
        queue = self.own_queue(options["queue"])
        jobs.STOP.clear()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: jobs.STOP.set())
        with self.progress("done", as_json=options["json"]) as progress, _counting(queue, progress):
            operations.drain(queue, stopping=jobs.STOP.is_set)
        waiting = operations.count_waiting(queue)
        facts = {"queue": queue, "waiting": waiting}
        self.tell(facts, f"{queue}: {waiting} rows still wait.", as_json=options["json"])


@contextmanager
def _counting(queue: str, progress: Progress) -> Iterator[None]:
    """A block in which each row of `queue` that comes to its end here is counted."""

    def count(sender: object, **facts: Any) -> None:
        progress.add(int(facts["queue"] == queue))

    # To listen costs a little for each row: only where somebody looks on.
    ends = (signals.completed, signals.failed, signals.removed) if progress.shown else ()
    for end in ends:
        end.connect(count)
    try:
        yield
    finally:
        for end in ends:
            end.disconnect(count)
