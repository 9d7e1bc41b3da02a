"""Say that this database belongs to this environment."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from notifications import conf, holds, operations
from notifications.management.base import OperationCommand


class Command(OperationCommand):
    """A copied database is held until somebody runs this."""

    help = "Adopts a database that was stamped by another environment; its queues then go on."

    def add_arguments(self, parser: CommandParser) -> None:
        """The confirmation, --json."""
        self.add_confirmation(parser)
        self.add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Adopt it."""
        here, stamped = conf.environment(), holds.stamp()
        facts = {"environment": here, "belonged_to": stamped, "dry_run": options["dry_run"]}
        if here == stamped:
            words = f"This database belongs to {here!r} already."
            self.tell({**facts, "waiting": 0}, words, as_json=options["json"])
            return
        waiting = sum(operations.count_waiting(queue) for queue in conf.queue_names())
        question = (
            f"This database belongs to {stamped!r}; {waiting} rows wait in it and would go out "
            f"from {here!r}. `notifications_empty QUEUE` cancels them first."
        )
        words = question
        if not options["dry_run"]:
            self.confirm(question, interactive=options["interactive"], answer=here)
            operations.adopt()
            words = f"This database now belongs to {here!r}."
        self.tell({**facts, "waiting": waiting}, words, as_json=options["json"])
