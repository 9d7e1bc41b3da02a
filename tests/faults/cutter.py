"""A way to a server on which answers get lost.

    with Cutter(port, {b"EXEC": 10}) as way:
        ...                        # connect to way.port instead
        way.cut                    # the requests that the server has carried out, and nobody knows

What a client sends is passed on, and so are the answers. But every second request with one of the
given words, as often as is said there, is its connection's last: the server has carried it out,
and its client is cut off without a word of that. The client may try again at once, and succeed.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK = 65_536
DONE = 0.05  # seconds after the first byte of its answer the server has done it


class Cutter:
    """Listens on a port of its own, in a thread of its own, while the `with` block lasts."""

    def __init__(self, port: int, times: Mapping[bytes, int]) -> None:
        self.port = 0
        self.cut: Counter[bytes] = Counter()
        self._server = port
        self._left = Counter(dict(times))
        self._seen: Counter[bytes] = Counter()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _listen(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        there, answers = writer, None
        try:
            source, there = await asyncio.open_connection("127.0.0.1", self._server)
            answers = asyncio.create_task(_pass_on(source, writer))
            while data := await reader.read(CHUNK):
                word = self._take(data)
                if word is not None:
                    answers.cancel()
                    with suppress(asyncio.CancelledError):
                        await answers
                there.write(data)
                if word is not None:
                    await source.read(1)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(DONE):
                            await source.read()
                    self.cut[word] += 1
                    break
        except OSError:
            pass  # one of them hung up, or nobody is there
        finally:
            if answers is not None:
                answers.cancel()
            for end in (writer, there):
                end.close()

    def _take(self, data: bytes) -> bytes | None:
        """The word for which the answer to `data` gets lost."""
        for word in self._left:
            if word in data:
                self._seen[word] += 1
                if self._left[word] and self._seen[word] % 2:
                    self._left[word] -= 1
                    return word
        return None


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
    writer.close()
