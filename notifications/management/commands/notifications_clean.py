"""Remove rows that ended long enough ago, and what RQ keeps of our queues."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from notifications import conf, operations
from notifications.errors import WrongState
from notifications.management.base import OperationCommand


class Command(OperationCommand):
    """Bare, it applies NOTIFICATIONS["RETENTION"]."""

    help = "Removes rows by state and age, and cleans RQ's registries. Waiting rows stay."

    def add_arguments(self, parser: CommandParser) -> None:
        """--state, --older-than, --queue."""
        parser.add_argument("--state", action="append", dest="states", help="repeat for several")
        parser.add_argument("--older-than", help='"30d", "12h"; without it: by RETENTION')
        parser.add_argument("--queue", help="only this queue")
        self.add_json(parser)
        self.add_confirmation(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Clean."""
        queue = self.known_queue(options["queue"]) if options["queue"] else None
        try:
            age = options["older_than"] and conf.parse_duration(options["older_than"])
            if options["older_than"] and not options["dry_run"]:
                self.confirm(
                    f"Remove rows that ended more than {options['older_than']} ago?",
                    interactive=options["interactive"],
                )
            with self.progress("rows removed", as_json=options["json"]) as progress:
                cleaned = operations.clean(
                    states=options["states"], older_than=age, queue=queue,
                    dry_run=options["dry_run"], step=progress.add,
                )  # fmt: skip
        except (WrongState, ImproperlyConfigured) as error:
            raise CommandError(str(error), returncode=2) from error
        verb = "would be removed" if options["dry_run"] else "removed"
        self.tell(
            {"rows": cleaned.rows, "jobs": cleaned.jobs, "dry_run": options["dry_run"]},
            f"{cleaned.rows} rows and {cleaned.jobs} RQ jobs {verb}.",
            as_json=options["json"],
        )
