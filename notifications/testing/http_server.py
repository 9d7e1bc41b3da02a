"""What the HTTP servers of this folder share: threads on loopback, and answers by script.

A server judges each request in `respond`; an `Answer` of its script goes before that.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar
from urllib.parse import parse_qsl, urlsplit


@dataclass(slots=True)
class Answer:
    """What the server answers instead of checking the request."""

    status: int = 202
    message: str = ""  # of the one error in the body
    headers: Mapping[str, str] = field(default_factory=dict)
    match: str = ""  # only requests with this in their body
    times: int | None = None  # how often; None: always
    after: int = 0  # how often it lets pass before
    then: Literal["", "hang", "drip", "close", "reset"] = ""  # instead of an answer
    accept: bool = False  # keeps the message, whatever it answers
    body: str | None = None  # instead of JSON

    def applies(self, raw: str) -> bool:
        """Whether it is this answer's turn, which counts as one."""
        if self.match not in raw:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came."""

    method: str
    path: str  # without the query
    headers: Mapping[str, str]
    query: Mapping[str, str]
    raw: bytes
    payload: Any  # the JSON, None if it was none


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back."""

    status: int
    body: Any = None  # sent as JSON, text as it is; None: nothing
    headers: Mapping[str, str] = field(default_factory=dict)


A = TypeVar("A", bound=Answer)


class HttpServer(Generic[A]):
    """Listens on 127.0.0.1 while its `with` block lasts."""

    def __init__(self, *, port: int = 0, answers: Sequence[A] = ()) -> None:
        """`answers` are looked through in their order at each request; port 0 is a free one."""
        self.port = port
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.connections = 0
        self.stopping = threading.Event()
        self.arrived = threading.Condition()  # guards and announces what was accepted
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def origin(self) -> str:
        """http://127.0.0.1 and the port."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name=type(self).__name__, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        assert self._thread is not None
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def respond(self, request: Request) -> Reply:
        """Judge a request, and keep what it hands over."""
        raise NotImplementedError

    def keep_anyway(self, request: Request, answer: A) -> None:
        """Take over what a scripted answer accepts."""
        raise NotImplementedError

    def put(self, answer: A) -> Reply:
        """A scripted answer as this server puts it."""
        raise NotImplementedError


class _Handler(BaseHTTPRequestHandler):
    owner: HttpServer[Any]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.owner.connections += 1

    def do_GET(self) -> None:
        """Look something up."""
        self._serve()

    def do_POST(self) -> None:
        """Hand something over."""
        self._serve()

    def _serve(self) -> None:
        owner = self.owner
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        request = Request(
            self.command,
            address.path,
            dict(self.headers.items()),
            dict(parse_qsl(address.query)),
            raw,
            _parse(raw),
        )
        owner.requests.append(request)
        text = raw.decode(errors="replace")
        answer = next((each for each in owner.answers if each.applies(text)), None)
        if answer is None:
            self._send(owner.respond(request))
            return
        if answer.accept:
            owner.keep_anyway(request, answer)
        if answer.then:
            self._misbehave(answer)
            return
        reply = owner.put(answer)
        self._send(reply if answer.body is None else Reply(reply.status, answer.body))

    def _send(self, reply: Reply) -> None:
        body = "" if reply.body is None else reply.body
        if not isinstance(body, str):
            body = json.dumps(body)
        self.send_response(reply.status)
        if body:
            self.send_header("Content-Type", "application/json")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def _misbehave(self, answer: Answer) -> None:
        stopping = self.owner.stopping
        self.close_connection = True
        if answer.then == "hang":
            stopping.wait()
        elif answer.then == "drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not stopping.wait(0.05):
                self.wfile.write(b".")
        elif answer.then == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def handle(self) -> None:
        """A client that goes away in the middle is no trouble here."""
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def finish(self) -> None:
        """As above."""
        try:
            super().finish()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: tests have their own words."""


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None
