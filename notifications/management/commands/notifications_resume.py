"""Go on with a queue."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from notifications import operations
from notifications.management.base import OperationCommand


class Command(OperationCommand):
    """Lifts pauses, holds on the queue's providers, and lets an old backlog go."""

    help = "Resumes a queue."

    def add_arguments(self, parser: CommandParser) -> None:
        """QUEUE, --json."""
        self.add_queue(parser)
        self.add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Resume it."""
        queue = self.own_queue(options["queue"])
        lifted = operations.resume(queue)
        words = f"{queue} goes on." if lifted else f"{queue} was not held."
        self.tell({"queue": queue, "lifted": lifted}, words, as_json=options["json"])
