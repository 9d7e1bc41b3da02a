"""Show how the queues and the events stand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandParser

from notifications import statistics
from notifications.management.base import OperationCommand
from notifications.statistics import COUNTS


class Command(OperationCommand):
    """Once, or every few seconds until Ctrl-C."""

    help = "Shows each queue and each topic; completed and failed are those of the last day."

    def add_arguments(self, parser: CommandParser) -> None:
        """--watch, --json."""
        parser.add_argument("--watch", type=float, metavar="SECONDS", help="again and again")
        parser.add_argument("--json", action="store_true", help="one JSON object a line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Show. Raises CommandError (2)."""
        self.at_least_one("--watch", options["watch"])
        while True:
            queues, events = statistics.all_queue_stats(), statistics.event_stats()
            facts = {
                "queues": [each.as_dict() for each in queues],
                "events": [each.as_dict() for each in events],
            }
            rows = [[each.queue, *each.as_words().values(), each.paused] for each in queues]
            text = _table(["queue", *COUNTS, "paused"], rows)
            if events:
                rows = [[each.topic, *each.as_words().values()] for each in events]
                text += "\n\n" + _table(["topic", *COUNTS], rows)
            self.tell(facts, text, as_json=options["json"])
            if not options["watch"]:
                return
            self.stdout.flush()
            try:
                time.sleep(options["watch"])
            except KeyboardInterrupt:
                return


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    return "\n".join(
        "  ".join(
            each.ljust(width) if place == 0 else each.rjust(width)
            for place, (each, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, *rows]
    )
