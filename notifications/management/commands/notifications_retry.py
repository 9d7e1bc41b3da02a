"""Try dead letters again."""

from __future__ import annotations

import time
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from notifications import conf, operations
from notifications.management.letters import LettersCommand
from notifications.models import DeadLetter


class Command(LettersCommand):
    """By id, or all that match."""

    help = "Retries dead letters: their rows go out again, with the same idempotency key."

    def add_arguments(self, parser: CommandParser) -> None:
        """The choice, and --rate."""
        self.add_choice(parser)
        parser.add_argument("--rate", default="", help='not faster than "5/s"')

    def handle(self, *args: Any, **options: Any) -> None:
        """Retry them. Raises CommandError."""
        try:
            rate = conf.parse_rate(options["rate"])
        except ImproperlyConfigured as error:
            raise CommandError(str(error), returncode=2) from error
        ids = self.chosen(options)
        done = 0
        if not options["dry_run"]:
            if options["all"] and ids:
                self.confirm(f"Retry {len(ids)} dead letters?", interactive=options["interactive"])
            pause = 0.0 if rate is None else rate.seconds / rate.limit
            with self.progress("retried", of=len(ids), as_json=options["json"]) as progress:
                for number in ids:
                    done += operations.retry_letters(DeadLetter.objects.filter(pk=number))
                    progress.add(1)
                    time.sleep(pause)
        words = f"{len(ids)} would be retried." if options["dry_run"] else f"{done} retried."
        facts = {"matched": len(ids), "retried": done, "dry_run": options["dry_run"]}
        self.tell(facts, words, as_json=options["json"])
