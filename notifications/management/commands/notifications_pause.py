"""Stop claiming from a queue, on every machine within a second."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from notifications import conf, operations
from notifications.management.base import OperationCommand


class Command(OperationCommand):
    """What is being sent is finished; nothing new is claimed."""

    help = "Pauses a queue."

    def add_arguments(self, parser: CommandParser) -> None:
        """QUEUE, --for, --reason."""
        self.add_queue(parser)
        parser.add_argument("--for", dest="duration", help='"30m", "2h"; without it: until resumed')
        parser.add_argument("--reason", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        """Pause it."""
        queue = self.known_queue(options["queue"])
        try:
            duration = options["duration"] and conf.parse_duration(options["duration"])
        except ImproperlyConfigured as error:
            raise CommandError(str(error), returncode=2) from error
        operations.pause(queue, reason=options["reason"], duration=duration or None)
        self.stdout.write(f"{queue} is paused.")
