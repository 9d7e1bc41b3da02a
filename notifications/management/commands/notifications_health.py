"""Say whether it is well, and what is wrong if not."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from notifications import health
from notifications.health import Level
from notifications.management.base import OperationCommand


class Command(OperationCommand):
    """For people, cron and probes."""

    help = (
        "Tells how it is. Exit code 0: healthy or degraded; 1: failing, or with --strict degraded."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """--strict, --json."""
        parser.add_argument("--strict", action="store_true", help="exit code 1 when degraded, too")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Tell. Raises CommandError (1)."""
        found = health.examine()
        lines = [str(found.level), *(f"  {reason.text}" for reason in found.reasons)]
        self.tell(found.as_dict(), "\n".join(lines), as_json=options["json"])
        bad = {Level.FAILING, Level.DEGRADED} if options["strict"] else {Level.FAILING}
        if found.level in bad:
            raise CommandError(f"It is {found.level}.", returncode=1)
