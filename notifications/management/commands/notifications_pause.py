"""Stop claiming from a queue, on every machine within a second."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from notifications import conf, operations
from notifications.management.base import OperationCommand


class Command(OperationCommand):
    """What is being sent is finished; nothing new is claimed."""

    help = "Pauses a queue."

    def add_arguments(self, parser: CommandParser) -> None:
        """QUEUE, --for, --reason, --json."""
        self.add_queue(parser)
        parser.add_argument("--for", dest="duration", help='"30m", "2h"; without it: until resumed')
        parser.add_argument("--reason", default="")
        self.add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Pause it. Raises CommandError (2)."""
        queue = self.own_queue(options["queue"])
        duration = self._duration(options["duration"])
        operations.pause(queue, reason=options["reason"], duration=duration)
        facts = {
            "queue": queue,
            "reason": options["reason"],
            "seconds": duration and duration.total_seconds(),
        }
        self.tell(facts, f"{queue} is paused.", as_json=options["json"])

    def _duration(self, given: str | None) -> timedelta | None:
        if given is None:
            return None
        try:
            duration = conf.parse_duration(given)
        except ImproperlyConfigured as error:
            raise CommandError(str(error), returncode=2) from error
        if not duration:
            raise CommandError("--for must be longer than nothing.", returncode=2)
        return duration
