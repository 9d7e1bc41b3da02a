"""Remove dead letters without sending them."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from notifications import operations
from notifications.management.letters import LettersCommand
from notifications.models import DeadLetter

BATCH = 100  # letters of one query: a database takes so many parameters, and a person looks on


class Command(LettersCommand):
    """By id, or all that match."""

    help = "Removes dead letters; nothing is sent, and their rows stay dead."

    def add_arguments(self, parser: CommandParser) -> None:
        """The choice."""
        self.add_choice(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Discard them. Raises CommandError."""
        ids = self.chosen(options)
        done = 0
        if not options["dry_run"]:
            if ids:
                self.confirm(
                    f"Discard {len(ids)} dead letters?", interactive=options["interactive"]
                )
            with self.progress("discarded", of=len(ids), as_json=options["json"]) as progress:
                for start in range(0, len(ids), BATCH):
                    some = ids[start : start + BATCH]
                    done += operations.discard_letters(DeadLetter.objects.filter(pk__in=some))
                    progress.add(len(some))
        words = f"{len(ids)} would be discarded." if options["dry_run"] else f"{done} discarded."
        facts = {"matched": len(ids), "discarded": done, "dry_run": options["dry_run"]}
        self.tell(facts, words, as_json=options["json"])
