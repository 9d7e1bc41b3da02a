"""Server processes that end with the process that started them, even if that one is killed."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# Waits until the other end of its input is closed, which the kernel sees to however a process
# ends. Arguments: the signal that ends the server, the server's process id, its folder. The count
# is there because a dead process whose new parent does not collect it looks alive for ever.
_GUARD = """
read -r line
kill -s "$1" "$2"
count=0
while kill -0 "$2" && [ "$count" -lt 50 ]; do sleep 0.1; count=$((count + 1)); done
kill -s KILL "$2"
rm -rf -- "$3"
"""


class ServerError(Exception):
    """Raised when a server does not start, or is not ready in time; the text ends with its log."""


class GuardedProcess:
    """A running server and the shell that guards it.

    `folder` is the server's own, and is removed if this process dies. A forked child of this
    process holds the guard's input too: the guard then waits for the last of them.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        folder: Path,
        quit_signal: signal.Signals = signal.SIGTERM,
        user: int | None = None,
    ) -> None:
        """Start `command` in `folder`, as the user with the id `user` if one is given.

        Raises OSError.
        """
        self.log = folder / "log"
        self._quit_signal = quit_signal
        with self.log.open("ab") as log:
            # Sessions of their own: Ctrl-C in a terminal is for us, who then stop them in order.
            self._server = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        self.pid = self._server.pid
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "guard", quit_signal.name[3:], str(self.pid), str(folder)],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        """Whether the server has not ended."""
        return self._server.poll() is None

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Ask `ready` until it says yes. Raises ServerError if the server ends or time is up."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running or time.monotonic() > deadline:
                how = "is not ready" if self.running else "ended"
                self.stop()
                raise ServerError(f"{self._server.args!r} {how}:\n{self._end_of_log()}")
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Send the server a signal."""
        self._server.send_signal(number)

    def stop(self, number: signal.Signals | None = None, *, seconds: float = 10) -> None:
        """End the server and its guard; after `seconds`, by force. The folder stays."""
        # The guard first: once we have collected the server, its id may be another process's.
        self._guard.kill()
        self._guard.communicate()
        self._server.send_signal(number or self._quit_signal)
        self._server.send_signal(signal.SIGCONT)
        try:
            self._server.wait(seconds)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()

    def _end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-2_000:]


def find_free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on; somebody may before you do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_folder(name: str) -> Path:
    """A new folder for a server, in the system's folder of temporary files."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-"))
