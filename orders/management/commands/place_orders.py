"""Place orders like customers do, for demos, load and fault tests."""

from __future__ import annotations

import json
import random
import time
from contextlib import nullcontext
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from orders.catalogue import load_customers, load_products, order_something
from orders.models import User


class Command(BaseCommand):
    """Prints the ids of the placed orders, one a line, as soon as they are committed."""

    help = "Places realistic orders through the code of the storefront and prints their ids."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--count", type=int, required=True, help="how many orders")
        parser.add_argument("--customers", type=int, default=10, help="of how many customers")
        parser.add_argument(
            "--in-one-transaction",
            action="store_true",
            help="commit all orders together, instead of each on its own",
        )
        parser.add_argument(
            "--fail-after", type=int, metavar="M", help="raise an error after M orders"
        )
        parser.add_argument(
            "--json",
            action="store_true",
            help="print one JSON object at the end: order_ids, and the seconds placing took",
        )
        parser.add_argument("--seed", type=int, help="draw the same orders again")

    def handle(self, *args: Any, **options: Any) -> None:
        """Place the orders. Raises CommandError when --fail-after says so."""
        if options["count"] < 0 or options["customers"] < 1:
            raise CommandError("--count must not be negative, and --customers at least 1")
        customers = load_customers(options["customers"])
        self.products = load_products()
        self.dice = random.Random(options["seed"])
        together = options["in_one_transaction"]
        placed: list[int] = []
        failure: CommandError | None = None
        began = time.perf_counter()
        try:
            with transaction.atomic() if together else nullcontext():
                for number in range(options["count"] + 1):
                    if number == options["fail_after"]:
                        raise CommandError(f"failed after {number} orders, as told")
                    if number == options["count"]:
                        break
                    placed.append(self._place(customers[number % len(customers)]))
                    if not (together or options["json"]):
                        self.stdout.write(str(placed[-1]))
        except CommandError as error:
            failure = error
            placed = [] if together else placed
        seconds = time.perf_counter() - began
        if options["json"]:
            self.stdout.write(json.dumps({"order_ids": placed, "seconds": round(seconds, 4)}))
        elif together:
            self.stdout.write("\n".join(map(str, placed)))
        if failure is not None:
            raise failure

    def _place(self, customer: User) -> int:
        return order_something(customer, self.products, dice=self.dice).pk
