"""Fill an empty shop."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from orders.catalogue import load_customers, load_products


class Command(BaseCommand):
    """Loads products, and customers if asked to. What is there already stays as it is."""

    help = "Loads products to sell, and made-up customers at example.com."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--customers", type=int, default=0, help="how many customers")

    def handle(self, *args: Any, **options: Any) -> None:
        """Load them and say so."""
        products = load_products()
        customers = load_customers(options["customers"])
        self.stdout.write(f"{len(products)} products, {len(customers)} customers")
