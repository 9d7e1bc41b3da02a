"""A mail server that accepts each mail some time after its last byte, and counts them.

    python benchmarks/slow_sink.py PORT DELAY

It writes the counters as Postfix's `smtp-sink -c` does. It knows what clients of this benchmark
say, with or without pipelining (RFC 2920).
"""

from __future__ import annotations

import asyncio
import sys

_GREETING = b"220 sink ESMTP\r\n"
_EHLO = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 10000000\r\n"
_REPLIES = {
    b"EHLO": _EHLO,
    b"HELO": b"250 sink\r\n",
    b"DATA": b"354 End data with <CR><LF>.<CR><LF>\r\n",
    b"QUIT": b"221 Bye\r\n",
}
_OK = b"250 2.0.0 Ok\r\n"
_END = b"\r\n.\r\n"
_EVERY = 0.002  # seconds between two records, at least


class Counter:
    """Mails accepted, written to standard output now and then."""

    def __init__(self) -> None:
        self._accepted = 0
        self._planned = False

    def add(self) -> None:
        """Count one mail."""
        self._accepted += 1
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_later(_EVERY, self._write)

    def _write(self) -> None:
        self._planned = False
        sys.stdout.write(f"sess=    0 quit=    0 mesg={self._accepted:5}\r")
        sys.stdout.flush()


class Session(asyncio.Protocol):
    """One client."""

    def __init__(self, counter: Counter, delay: float) -> None:
        self._counter = counter
        self._delay = delay
        self._waiting = b""
        self._in_data = False
        self._accepting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(_GREETING)

    def data_received(self, data: bytes) -> None:
        """Answer every whole command, in order."""
        self._waiting += data
        self._proceed()

    def _proceed(self) -> None:
        replies: list[bytes] = []
        while not self._accepting:
            if self._in_data:
                _content, end, rest = self._waiting.partition(_END)
                if not end:
                    break
                self._waiting, self._in_data, self._accepting = rest, False, True
                asyncio.get_running_loop().call_later(self._delay, self._accept)
                break
            line, end, rest = self._waiting.partition(b"\r\n")
            if not end:
                break
            self._waiting = rest
            verb = line[:4].upper()
            self._in_data = verb == b"DATA"
            replies.append(_REPLIES.get(verb, _OK))
            if verb == b"QUIT":
                self._transport.write(b"".join(replies))
                self._transport.close()
                return
        if replies:
            self._transport.write(b"".join(replies))

    def _accept(self) -> None:
        self._accepting = False
        if not self._transport.is_closing():
            self._counter.add()
            self._transport.write(_OK)
            self._proceed()


async def serve(port: int, delay: float) -> None:
    """Serve until killed."""
    counter = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Session(counter, delay), "127.0.0.1", port, backlog=512
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
