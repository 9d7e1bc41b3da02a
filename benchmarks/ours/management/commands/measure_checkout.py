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
        ways = {"no mail": _tell_nobody, "notify()": notify_values, "publish()": publish_placed}
        for tell in ways.values():
            _checkout(0, tell)  # the first one connects
        took: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(options["queued"]):
            for name, tell in ways.items():
                took[name].append(_checkout(number, tell))
        took["sent inline"] = [
            _checkout(number, _send_inline) for number in range(options["inline"])
        ]
        medians = {name: statistics.median(each) for name, each in took.items()}
        self.stdout.write(json.dumps(medians))


def _checkout(number: int, tell: Callable[[int], None]) -> float:
    """How long an order's transaction takes in which `tell` is called with a number."""
    began = time.perf_counter()
    with transaction.atomic():
        content.save_order(number)
        tell(number)
    return time.perf_counter() - began


def _tell_nobody(number: int) -> None:
    return


def _send_inline(number: int) -> None:
    mail.send(content.address(number), content.values(number), keep_open=False)
