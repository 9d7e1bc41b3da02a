"""Worker processes of the tests: real ones, on the servers of the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from redis import Redis

ROOT = Path(__file__).parent.parent
PATIENCE = 60.0  # seconds for what comes at once, on a machine that has other things to do


def wait_until(what: Callable[[], Any], *, seconds: float = PATIENCE) -> Any:
    """The first true value of `what`. Fails the test if none comes in time."""
    until = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.02)
    return value


def run_command(*words: str, seconds: float = PATIENCE, **environment: str) -> str:
    """Run `manage.py words` to its end; what it printed. Fails the test if it fails."""
    done = subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=_environment(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


class CommandProcess:
    """`manage.py <words>` with the probe's settings, for the length of a `with` block.

    `notifications` are changes to that setting; other keywords go into its environment.
    """

    def __init__(
        self, *words: str, notifications: dict[str, Any] | None = None, **environment: str
    ) -> None:
        self._words = words
        self._environment = _environment(environment)
        if notifications:
            self._environment["PROBE_NOTIFICATIONS"] = json.dumps(notifications)
        self._log = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115
        self._family: list[psutil.Process] = []
        self.told = 0.0  # monotonic time of the last signal
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "manage.py", *self._words],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remember_family()
        for process in self._family:
            if process.is_running():  # and is still the same: psutil compares start times
                process.kill()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(PATIENCE)
        if error is not None:
            sys.stderr.write(f"--- log of {' '.join(self._words)}:\n{self.log}\n")
        self._log.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """What it and its children have printed so far."""
        return Path(self._log.name).read_text()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def children(self) -> list[int]:
        """The process ids of its living children."""
        self._remember_family()
        try:
            children = psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return []
        return [child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it, and not to its children."""
        self._remember_family()
        self._process.send_signal(number)
        self.told = time.monotonic()

    def stop(self, number: signal.Signals = signal.SIGTERM, *, seconds: float = 20) -> int:
        """Ask it to end, and wait for that; its exit code."""
        self.send(number)
        return self._process.wait(seconds)

    def kill(self) -> None:
        """kill -9, without its children."""
        self.send(signal.SIGKILL)
        self._process.wait(PATIENCE)

    def _remember_family(self) -> None:
        if self._process.poll() is None:
            found = psutil.Process(self.pid).children(recursive=True)
            self._family = [p for p in {*self._family, *found} if p.is_running()]


class WorkerProcess(CommandProcess):
    """`manage.py rqworker <words>`."""

    def __init__(self, *words: str, **changes: Any) -> None:
        super().__init__("rqworker", *words, **changes)

    def wait_ready(self, redis: Redis) -> Self:
        """Wait until it listens and its clock ticks."""
        wait_until(lambda: self._registered(redis) or not self.running)
        assert self.running, self.log
        wait_until(lambda: self.clock)
        return self

    def _registered(self, redis: Redis) -> bool:
        return any(
            int(redis.hget(key, "pid") or 0) == self.pid for key in redis.smembers("rq:workers")
        )

    @property
    def clock(self) -> int:
        """The process id of its clock; 0 while there is none."""
        self._remember_family()
        return clock_of(self.pid)


def clock_of(worker: int) -> int:
    """The process id of a worker's clock; 0 while there is none.

    It is the child that was forked and not executed (imports may run small programs), in the
    worker's own process group (horses have groups of their own).
    """
    try:
        parent = psutil.Process(worker)
        command, group = parent.cmdline(), os.getpgid(worker)
        for child in parent.children():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if child.cmdline() == command and os.getpgid(child.pid) == group:
                    return child.pid
    except (psutil.NoSuchProcess, ProcessLookupError):
        pass
    return 0


def horse_of(worker: int) -> int:
    """The process id of the horse that serves for a worker; 0 while there is none."""
    children = psutil.Process(worker).children()
    return next((each.pid for each in children if os.getpgid(each.pid) == each.pid), 0)


def is_alive(pid: int) -> bool:
    """Whether a process runs, and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _environment(changes: dict[str, str]) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.probe.settings",
        "EMAIL_HOST": "127.0.0.1",
        "EMAIL_PORT": "1",
        **changes,
    }
