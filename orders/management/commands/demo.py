"""Show the whole shop on this machine, with everything it needs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from notifications.testing.guarded import ServerError
from orders import demo


class Command(BaseCommand):
    """Starts itself anew in an environment where nothing is real, then runs there."""

    help = (
        "Starts a Redis, a mail server that only catches, a worker and the shop; places a few "
        "orders and shows each message as it arrives. Ctrl-C stops all of it."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--once",
            action="store_true",
            help="stop when the confirmations have arrived; exit code 1 if they do not",
        )
        parser.add_argument(
            "--seconds", type=float, default=30.0, help="how long --once waits for them"
        )
        parser.add_argument(
            "--folder",
            type=Path,
            default=settings.BASE_DIR / ".demo",
            help="where its database, mails and logs are kept until the next time",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare, or run. Raises CommandError when it cannot go on."""
        folder = options["folder"].resolve()
        more = ["--seconds", str(options["seconds"]), *(["--once"] if options["once"] else [])]
        if not demo.is_prepared():
            program = str(settings.BASE_DIR / "manage.py")
            words = [sys.executable, program, "demo", "--folder", str(folder), *more]
            self._say("Starting the shop, its worker, its mail server and its Redis ...")
            os.execve(sys.executable, words, demo.prepare(folder))  # noqa: S606
        try:
            demo.run(folder, once=options["once"], seconds=options["seconds"], say=self._say)
        except (demo.DemoError, ServerError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            self._say("\nStopped.")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
