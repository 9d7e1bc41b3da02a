"""Write orders in bulk, with ids from 1."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from benchmarks.shop.content import save_orders


class Command(BaseCommand):
    """`save_orders 5000`."""

    help = __doc__
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("count", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        """Write them."""
        save_orders(options["count"])
