"""Publish facts on an idle system; print how long after each commit its mail was accepted."""

import json
import os
import random
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from benchmarks.ours.calls import publish_placed
from benchmarks.sinks import count_received

IDLE = (0.2, 0.6)  # seconds between two of them
PATIENCE = 30.0  # seconds
LOOK = 0.0005  # seconds


class Command(BaseCommand):
    """`measure_hops 40` prints that many numbers of seconds."""

    help = __doc__
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("count", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure and print."""
        log = Path(os.environ["BENCH_SINK_LOG"])
        _hop(log, 0)  # the first connects
        hops = [_hop(log, number) for number in range(options["count"])]
        self.stdout.write(json.dumps(hops))


def _hop(log: Path, number: int) -> float:
    time.sleep(random.uniform(*IDLE))
    before = count_received(log)
    publish_placed(number)
    committed = time.perf_counter()
    while count_received(log) == before:
        if time.perf_counter() - committed > PATIENCE:
            raise CommandError("No mail came in.")
        time.sleep(LOOK)
    return time.perf_counter() - committed
