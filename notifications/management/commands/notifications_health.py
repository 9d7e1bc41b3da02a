"""Say whether it is well, and what is wrong if not."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from notifications import health
from notifications.health import Level
from notifications.management.base import OperationCommand


class Command(OperationCommand):
    """For people, cron and probes."""

    help = "Tells how it is. Exit code 0: healthy; 1: failing or degraded (not with --lenient)."

    def add_arguments(self, parser: CommandParser) -> None:
        """--lenient, --json."""
        parser.add_argument(
            "--lenient", action="store_true",
            help="exit code 0 while messages go out, whatever somebody should look at",
        )  # fmt: skip
        self.add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Tell. Raises CommandError (1)."""
        found = health.examine()
        lines = [str(found.level), *(f"  {reason.text}" for reason in found.reasons)]
        self.tell(found.as_dict(), "\n".join(lines), as_json=options["json"])
        well = {Level.HEALTHY, Level.DEGRADED} if options["lenient"] else {Level.HEALTHY}
        if found.level not in well:
            raise CommandError(f"It is {found.level}.", returncode=1)
