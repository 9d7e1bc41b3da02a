"""Cancel everything that waits in a queue."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from notifications import bulk, operations
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
        # Before the question: what comes while a person thinks was not meant.
        frozen = bulk.freeze_queue(queue)
        if options["dry_run"]:
            self.tell(
                {"queue": queue, "waiting": frozen.count},
                f"{frozen.count} rows of {queue} would be cancelled.",
                as_json=options["json"],
            )
            return
        self.confirm(
            f"Cancel the {frozen.count} rows that wait in {queue} now?",
            interactive=options["interactive"],
            answer=queue,
        )
        with self.progress("cancelled", of=frozen.count, as_json=options["json"]) as progress:
            cancelled = operations.empty(queue, upto=frozen.upto, step=progress.add)
        self.tell(
            {"queue": queue, "cancelled": cancelled},
            f"{cancelled} rows of {queue} cancelled.",
            as_json=options["json"],
        )
