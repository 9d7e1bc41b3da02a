"""Cancel everything that waits in a queue."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from notifications import operations
from notifications.management.base import OperationCommand


class Command(OperationCommand):
    """Asks for the queue's name before it acts."""

    help = "Cancels every waiting row of a queue. The rows stay, cancelled."

    def add_arguments(self, parser: CommandParser) -> None:
        """QUEUE."""
        self.add_queue(parser)
        self.add_json(parser)
        self.add_confirmation(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Empty it."""
        queue = self.own_queue(options["queue"])
        if options["dry_run"]:
            waiting = operations.count_waiting(queue)
            self.tell(
                {"queue": queue, "waiting": waiting},
                f"{waiting} rows of {queue} would be cancelled.",
                as_json=options["json"],
            )
            return
        self.confirm(
            f"Cancel everything that waits in {queue}?",
            interactive=options["interactive"],
            answer=queue,
        )
        cancelled = operations.empty(queue)
        self.tell(
            {"queue": queue, "cancelled": cancelled},
            f"{cancelled} rows of {queue} cancelled.",
            as_json=options["json"],
        )
