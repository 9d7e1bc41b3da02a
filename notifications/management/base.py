"""What the commands share: names of queues, confirmation, and the exit codes (0 done, 1 failed or
refused, 2 usage)."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from notifications import conf
from notifications.management.progress import Progress


class OperationCommand(BaseCommand):
    """A thin command over `notifications.operations`."""

    def add_queue(self, parser: CommandParser) -> None:
        """Take the name of a queue."""
        parser.add_argument("queue", help="a queue of RQ_QUEUES")

    def add_json(self, parser: CommandParser) -> None:
        """Take --json."""
        parser.add_argument("--json", action="store_true", help="print JSON, for programs")

    def add_confirmation(self, parser: CommandParser) -> None:
        """Take --no-input and --dry-run."""
        parser.add_argument(
            "--no-input", "--noinput", action="store_false", dest="interactive",
            help="do not ask; needed without a terminal",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="only say what would happen")

    def known_queue(self, name: str) -> str:
        """The name, if it is a queue. Raises CommandError (2)."""
        if name not in conf.queue_names():
            known = ", ".join(conf.queue_names())
            raise CommandError(f"No queue {name!r} in RQ_QUEUES; there are: {known}.", returncode=2)
        return name

    def own_queue(self, name: str) -> str:
        """The same, if it carries this app's rows. Raises CommandError (2)."""
        if not conf.owns_queue(self.known_queue(name)):
            ours = ", ".join(filter(conf.owns_queue, conf.queue_names()))
            raise CommandError(
                f"{name!r} carries jobs of the project's own, which are RQ's to run; of this app "
                f"there are: {ours}.",
                returncode=2,
            )
        return name

    def at_least_one(self, option: str, number: float | None) -> None:
        """Raises CommandError (2) for another number that was given for `option`."""
        if number is not None and not 1 <= number < math.inf:
            raise CommandError(f"{option} must be 1 or more.", returncode=2)

    def confirm(self, question: str, *, interactive: bool, answer: str = "yes") -> None:
        """Go on only if a person types `answer`, or with --no-input. Raises CommandError."""
        if not interactive:
            return
        if not sys.stdin.isatty():
            raise CommandError("There is no terminal to ask: pass --no-input to go ahead.")
        if input(f"{question}\nType {answer!r} to go on: ") != answer:
            raise CommandError("Left alone.")

    def progress(self, words: str, *, of: int | None = None, as_json: bool) -> Progress:
        """Shows a person at a terminal how far the work is: so many `of` all, `words`."""
        return Progress(self.stdout, words, of=of, shown=self.stdout.isatty() and not as_json)

    def tell(self, facts: dict[str, Any], text: str, *, as_json: bool) -> None:
        """Print `facts` for a program, or `text` for a person."""
        self.stdout.write(json.dumps(facts, default=str) if as_json else text)
