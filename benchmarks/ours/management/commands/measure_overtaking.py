"""Place critical messages behind a backlog; print the seconds until each is settled.

By the database's clock, from the row's creation to its settlement, which is a little later than
the provider's acceptance.
"""

import json
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from benchmarks.ours.notifications import OrderConfirmation
from benchmarks.shop import content
from notifications.dispatch import notify
from notifications.models import Notification, Priority

PATIENCE = 60.0  # seconds


class Command(BaseCommand):
    """`measure_overtaking 10` prints that many numbers of seconds."""

    help = __doc__
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("count", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure and print."""
        waits = [_overtake(number) for number in range(options["count"])]
        self.stdout.write(json.dumps(waits))


def _overtake(number: int) -> float:
    with transaction.atomic():
        [row] = notify(
            OrderConfirmation,
            to=content.address(number),
            context=content.values(number),
            priority=Priority.CRITICAL,
        )
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        created, settled = Notification.objects.values_list("created_at", "settled_at").get(
            pk=row.pk
        )
        if settled is not None:
            return float((settled - created).total_seconds())
        time.sleep(0.02)
    raise CommandError("A critical message was not sent.")
