"""Place orders whose mail is sent inline, and orders whose mail is queued; print the medians."""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from benchmarks.ours.calls import notify_values, publish_placed
from benchmarks.shop import content, mail


class Command(BaseCommand):
    """`measure_checkout 5 100`: so many inline, and so many of each other sort."""

    help = __doc__
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("inline", type=int)
        parser.add_argument("queued", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure and print, in seconds."""
        inline, queued = options["inline"], options["queued"]
        measured = {
            "no mail": _checkout(queued, lambda number: None),
            "sent inline": _checkout(inline, _send_inline),
            "notify()": _checkout(queued, notify_values),
            "publish()": _checkout(queued, publish_placed),
        }
        self.stdout.write(json.dumps(measured))


def _checkout(count: int, tell: Callable[[int], None]) -> float:
    """The median time of an order's transaction in which `tell` is called with a number."""
    took = []
    for number in range(count):
        began = time.perf_counter()
        with transaction.atomic():
            content.save_order(number)
            tell(number)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def _send_inline(number: int) -> None:
    mail.send(content.address(number), content.values(number), keep_open=False)
