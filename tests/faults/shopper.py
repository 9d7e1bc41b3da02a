"""A process that places orders when it is told to, one for a whole test, as a web server is: it had
Redis and the database before they went away.

`python -m tests.faults.shopper` reads the options of one `place_orders` from each line, as JSON,
and answers with what that printed, once everything was rung that could be.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import django
from django.core.management import CommandError, call_command
from django.db import close_old_connections

ROOT = Path(__file__).parent.parent.parent


class Shopper:
    """The process, from outside."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.shopper"],
                cwd=ROOT, env=environment, text=True, bufsize=1,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip

    def place(self, count: int, *options: str) -> float:
        """Place orders; the seconds they took. Raises CommandError as the command does."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(["--count", str(count), "--json", *options]) + "\n")
        answer = self._process.stdout.readline()
        assert answer, self._log.read_text()[-3000:]
        told = json.loads(answer)
        if "error" in told:
            raise CommandError(told["error"])
        return float(told["seconds"])

    def stop(self) -> None:
        with self._process as process:
            process.kill()


def main() -> None:
    """The process, from inside."""
    django.setup()
    from notifications import rings

    for line in sys.stdin:
        close_old_connections()
        told = io.StringIO()
        try:
            call_command("place_orders", *json.loads(line), stdout=told)
        except CommandError as error:
            told = io.StringIO(json.dumps({"error": str(error)}))
        rings.flush()
        print(told.getvalue().strip(), flush=True)


if __name__ == "__main__":
    main()
