"""A mail server for tests and demonstrations: it catches what it gets, and misbehaves on request.

    with SmtpServer() as server:
        ...                        # send to server.host, server.port
        server.wait_for(1)
        server.messages[0].message["Subject"]

    SmtpServer(rules=[
        Rule("RCPT", "550 5.1.1 no such user", match="*@refused.example"),
        Rule("RCPT", "451 come back later", times=2),
        Rule("CONTENT", then="hang", accept=True),  # takes the mail and never says so
    ])

It runs in a thread of its own, speaks SMTP as RFC 5321 has it, and needs nothing but Python.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from notifications.testing.smtp_dialogue import Dialogue, HungUp, Received, Rule

__all__ = ["Received", "Rule", "SmtpServer"]


class SmtpServer:
    """Catches mail on loopback."""

    host = "127.0.0.1"

    def __init__(
        self,
        *,
        port: int = 0,
        rules: Sequence[Rule] = (),
        pipelining: bool = True,
        size: int = 0,
        latency: float = 0.0,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        users: Mapping[str, str] | None = None,
        auth_methods: str = "PLAIN LOGIN",
        folder: Path | None = None,
        on_message: Callable[[Received], None] | None = None,
    ) -> None:
        """`port` 0 takes a free one. `size` is the largest message in bytes, 0 for any. `latency`
        is seconds before each wait for input is answered, like a long way. `tls` offers STARTTLS,
        with `implicit_tls` TLS from the first byte. With `users`, names and their passwords,
        nobody sends without logging in. Into `folder` goes a file for each message. `on_message`
        is called for each, in the server's thread.
        """
        self.port = port
        self.rules = list(rules)
        self.pipelining = pipelining
        self.size = size
        self.latency = latency
        self.tls = tls
        self.implicit_tls = implicit_tls
        self.users = users
        self.auth_methods = auth_methods
        self.folder = folder
        self.on_message = on_message
        self.messages: list[Received] = []
        self.deliveries: Counter[str] = Counter()  # messages by their X-Notification-Id
        self.commands: list[str] = []  # every line that was a command, in its order
        self.connections = 0  # accepted so far
        self.waits = 0  # times it had answered all it had and waited: round trips
        self.early = 0  # commands that came before the last answer; pipelining must be offered
        self._arrived = threading.Condition()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # -- from the outside -------------------------------------------------------------------

    def start(self) -> Self:
        """Listen. After `stop` it comes back on the same port."""
        ready: list[BaseException | None] = []
        started = threading.Event()

        def run() -> None:
            loop = self._loop = asyncio.new_event_loop()
            try:
                server = loop.run_until_complete(self._listen())
            except OSError as error:
                ready.append(error)
                started.set()
                loop.close()
                return
            started.set()
            loop.run_forever()
            loop.run_until_complete(self._end(server))
            loop.close()

        self._thread = threading.Thread(target=run, name="smtp-server", daemon=True)
        self._thread.start()
        started.wait()
        for error in ready:
            if error is not None:
                raise error
        return self

    def stop(self) -> None:
        """Cut all connections and listen no more."""
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_for(self, count: int, *, seconds: float = 10.0) -> list[Received]:
        """The messages, once there are `count`. Raises TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.messages) >= count, timeout=seconds):
                raise TimeoutError(f"{len(self.messages)} of {count} messages after {seconds} s")
            return list(self.messages)

    def hang_up(self, reply: str = "421 4.4.2 idle for too long") -> None:
        """Close every open connection now, saying `reply` first if it is not empty."""

        async def close() -> None:
            for writer in list(self._open):
                if reply:
                    writer.write(f"{reply}\r\n".encode())
                writer.close()

        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(close(), self._loop).result()

    # -- in its thread ----------------------------------------------------------------------

    async def _listen(self) -> asyncio.Server:
        context = self.tls if self.implicit_tls else None
        server = await asyncio.start_server(self._serve, self.host, self.port, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _end(self, server: asyncio.Server) -> None:
        server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._tasks.add(task)
        self._open.add(writer)
        self.connections += 1
        try:
            await Dialogue(self, reader, writer).run()
        except (ConnectionError, ssl.SSLError, HungUp, asyncio.CancelledError):
            pass  # the client went, the conversation is over, or the server stops
        finally:
            self._tasks.discard(task)
            self._open.discard(writer)
            with suppress(ConnectionError, ssl.SSLError):
                writer.close()

    def rule_for(self, stage: str, address: str) -> Rule | None:
        """The first rule that applies."""
        return next((rule for rule in self.rules if rule.applies(stage, address)), None)

    def keep(self, received: Received) -> None:
        """Take a message over."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{len(self.messages) + 1:06}.eml"
            draft = path.with_suffix(".part")
            draft.write_bytes(b"X-Caught-For: " + received.to.encode() + b"\r\n" + received.content)
            draft.replace(path)  # a reader never sees half of it
        with self._arrived:
            self.messages.append(received)
            self.deliveries[received.notification_id] += 1
            self._arrived.notify_all()
        if self.on_message is not None:
            self.on_message(received)
