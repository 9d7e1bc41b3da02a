"""A worker's own health over HTTP, for the orchestrator that runs it: GET / or /health.

200 while the worker lives and reaches Redis and its database, 503 with the reasons otherwise. It
is a process of its own beside the worker, so that it can still tell when the worker is gone; then
it goes too, a moment later.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from django.db import connections
from redis.exceptions import RedisError

from notifications import health
from notifications.connections import quick_redis

logger = logging.getLogger("notifications.vitals")

VARIABLE = "WORKER_HEALTH_CHECK_PORT"
LOOK = 5.0  # seconds between two looks
HUNG = 20.0  # seconds after which a look that has not ended is a bad sign itself
LINGER = 20.0  # seconds it tells of the worker's death


class VitalsProcess:
    """The server as a child of this process, if there is a port for it."""

    def __init__(self, queues: Sequence[str]) -> None:
        self._queues = tuple(queues)
        self.pid = 0

    def start(self) -> None:
        """Fork it. Without WORKER_HEALTH_CHECK_PORT there is none."""
        port = os.environ.get(VARIABLE, "")
        if not port:
            return
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            logger.error(
                "%s must be a port, not %r: the worker's health is not told", VARIABLE, port
            )
            return
        parent = os.getpid()
        connections.close_all()  # sockets must not be shared with the child
        self.pid = os.fork()
        if self.pid == 0:
            _live(parent, int(port), self._queues)

    def stop(self) -> None:
        """End it: a worker that was told to stop is not ill."""
        pid, self.pid = self.pid, 0
        if pid:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)


class Vitals:
    """What is known of the worker."""

    def __init__(self, parent: int, queues: Sequence[str]) -> None:
        self._parent = parent
        self._queue = next(iter(queues), "")
        self._reasons: list[str] = []
        self._looked = time.monotonic()
        self.died = 0.0  # when the worker was found dead

    def reasons(self) -> list[str]:
        """What is wrong now."""
        if os.getppid() != self._parent:
            return ["the worker is dead"]
        if time.monotonic() - self._looked > LOOK + HUNG:
            return ["Redis or the database hangs"]
        return list(self._reasons)

    def look(self) -> None:
        """Find out."""
        reasons = []
        if not health.is_ready():
            reasons.append("the database does not answer")
        try:
            if self._queue:
                quick_redis(self._queue).ping()
        except RedisError as error:
            reasons.append(f"Redis does not answer: {type(error).__name__}")
        connections.close_all()
        self._reasons, self._looked = reasons, time.monotonic()

    def watch(self) -> None:
        """Look until the worker has been dead for LINGER seconds."""
        while True:
            if os.getppid() != self._parent:
                self.died = self.died or time.monotonic()
                if time.monotonic() - self.died > LINGER:
                    return
            else:
                self.look()
            time.sleep(min(LOOK, LINGER / 4))


def serve(vitals: Vitals, port: int) -> ThreadingHTTPServer:
    """A server that tells `vitals`, in threads of its own. Raises OSError if the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """The status."""
            reasons = vitals.reasons()
            status = "failing" if reasons else "healthy"
            body = json.dumps({"status": status, "reasons": reasons}).encode()
            self.send_response(503 if reasons else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Probes come every few seconds."""

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="vitals", daemon=True).start()
    return server


def _live(parent: int, port: int, queues: Sequence[str]) -> None:
    """The whole life of the process; never returns."""
    status = 1
    try:
        # Ctrl-C reaches all processes of a terminal; the parent then ends this one.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        vitals = Vitals(parent, queues)
        vitals.look()
        while os.getppid() == parent:
            try:
                serve(vitals, port)
            except OSError as error:  # the last one still tells of a death, or it is in use
                logger.warning("port %s: %s; trying again", port, error)
                time.sleep(1.0)
            else:
                break
        vitals.watch()
        status = 0
    finally:
        os._exit(status)
