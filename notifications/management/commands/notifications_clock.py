"""The clock on its own, for hosts whose workers are not ours."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from notifications import clock


class Command(BaseCommand):
    """Runs until SIGTERM or Ctrl-C."""

    help = "Rings queues with due rows and starts schedules. Workers of ours have this built in."

    def handle(self, *args: Any, **options: Any) -> None:
        """Tick until told to stop."""
        over = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: over.set())
        queues = clock.own_queues()
        self.stdout.write(f"The clock of {', '.join(queues)} ticks. Ctrl-C to stop.")
        self.stdout.flush()
        clock.run(queues, stopping=over.is_set)
