"""The mail servers that throw everything away, and say how much they have taken.

Both append a record of fixed width to their log, so that reading the last one costs next to
nothing however fast mails come in.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from notifications.testing.guarded import (
    GuardedProcess,
    ServerError,
    find_free_port,
    make_folder,
)

PATIENCE = 60.0  # seconds without a mail after which something must be wrong
READY = 10.0  # seconds a sink may take to start
_RECORD = "mesg="  # smtp-sink -c writes "sess=%5d quit=%5d mesg=%5d\r"
_TAIL = 200  # bytes; more than two records


def count_received(log: Path) -> int:
    """Mails accepted so far by the sink that writes this log."""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _TAIL))
        records = file.read().decode("ascii", "replace").split("\r")
    whole = [record for record in records[:-1] if _RECORD in record]
    return int(whole[-1].partition(_RECORD)[2]) if whole else 0


class Sink:
    """A mail server on loopback that accepts every mail, `delay` seconds after its last byte.

    Without a delay it is Postfix's `smtp-sink`, written in C. That one waits for whole seconds
    only, so with a delay it is `benchmarks.slow_sink`.
    """

    def __init__(self, *, delay: float = 0.0) -> None:
        self.port = find_free_port()
        self._delay = delay
        self._folder: Path | None = None
        self._process: GuardedProcess | None = None

    @property
    def log(self) -> Path:
        """Where it writes its counters."""
        assert self._process is not None
        return self._process.log

    def received(self) -> int:
        """Mails accepted so far."""
        return count_received(self.log)

    def wait_for(
        self,
        count: int,
        *,
        check: Callable[[], object] = lambda: None,
        every: float = 0.005,
    ) -> int:
        """Wait until at least `count` mails are in; how many there are then.

        Looks `every` so many seconds, and calls `check` now and then. Raises RuntimeError when
        nothing has come in for a minute, and what `check` raises.
        """
        last, changed, checked = -1, time.perf_counter(), 0.0
        while True:
            known, now = self.received(), time.perf_counter()
            if known >= count:
                return known
            if now - checked > 0.5:
                checked = now
                check()
            if known != last:
                last, changed = known, now
            elif now - changed > PATIENCE:
                raise RuntimeError(f"Stuck: {known} of {count} mails came in.")
            time.sleep(every)

    def __enter__(self) -> Self:
        self._folder = make_folder("sink")
        self._process = GuardedProcess(self._command(), folder=self._folder)
        self._process.wait_until(self._answers, seconds=READY)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _command(self) -> list[str]:
        if self._delay:
            slow = Path(__file__).with_name("slow_sink.py")
            return [sys.executable, str(slow), str(self.port), str(self._delay)]
        program = shutil.which("smtp-sink") or shutil.which("smtp-sink", path="/usr/sbin")
        if program is None:
            raise ServerError(
                "There is no smtp-sink: install Postfix (Debian: apt-get install postfix), which "
                "has it. Postfix itself need not run."
            )
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        return [program, "-c", *user, f"127.0.0.1:{self.port}", "256"]

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as client:
            return client.recv(4).startswith(b"220")
        return False
