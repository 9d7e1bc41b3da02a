"""Queue mails one call each and print what a call costs, in microseconds, as JSON."""

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction
from django.utils.module_loading import import_string

from benchmarks.shop.content import save_order

Enqueue = Callable[[int], object]


class Command(BaseCommand):
    """`queue_mails benchmarks.peers.celery.calls.enqueue 5000`: the median of one call.

    With --in-transaction orders are placed, half of them with the call inside their transaction,
    and the difference of the two medians is printed.
    """

    help = __doc__
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("function", help="dotted path of a function of one argument: a number")
        parser.add_argument("count", type=int)
        parser.add_argument("--in-transaction", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure and print."""
        enqueue: Enqueue = import_string(options["function"])
        measure = added_to_an_order if options["in_transaction"] else one_call
        cost = measure(enqueue, options["count"])
        self.stdout.write(json.dumps({"microseconds": round(cost, 1)}))


def one_call(enqueue: Enqueue, count: int) -> float:
    """The median of `count` calls, in microseconds."""
    return statistics.median(_timed(partial(enqueue, number)) for number in range(count))


def added_to_an_order(enqueue: Enqueue, count: int) -> float:
    """What a call adds to the median of an order's own transaction, commit included."""
    for number in range(20):
        _place(number, enqueue)
    alone, together = [], []
    for number in range(count):
        alone.append(_timed(partial(_place, number)))
        together.append(_timed(partial(_place, number, enqueue)))
    return statistics.median(together) - statistics.median(alone)


def _place(number: int, enqueue: Enqueue | None = None) -> None:
    with transaction.atomic():
        save_order(number)
        if enqueue is not None:
            enqueue(number)


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1e6
