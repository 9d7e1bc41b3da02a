"""The sockets under a `requests.Session`: to know when a request went out, and to cut them.

`requests` can neither tell whether an error came before anything was sent, nor be stopped from
another thread. Both matter: what was not sent can go again, and a call that takes too long must
end although each of its reads is in time.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from notifications.message import Outcome, Verdict
from notifications.providers.smtp_replies import network_code
from notifications.providers.sockets import cut
from notifications.redaction import describe, safe_traceback

# What the clients log is not theirs to tell: at DEBUG the whole address of each request, which may
# be a key itself (a push endpoint) or hold a phone number, and SendGrid's client its key and the
# answers; as a warning the address again, where the headers of an answer are malformed.
for _client, _level in (
    ("urllib3", logging.INFO),
    ("urllib3.connection", logging.ERROR),
    ("python_http_client", logging.INFO),
):
    logging.getLogger(_client).setLevel(_level)


class Wire:
    """The connections of one session."""

    def __init__(self) -> None:
        self.begun = False  # bytes of the present request are out
        self.on_begin: Callable[[], None] | None = None  # called before the first of them
        self._connections: WeakSet[HTTPConnection] = WeakSet()
        self._cut = False

    def attach(self, session: requests.Session) -> None:
        """Watch all connections that `session` will open."""
        adapter = _Adapter(self)
        session.mount("https://", adapter)
        session.mount("http://", adapter)

    def reset(self, on_begin: Callable[[], None] | None = None) -> None:
        """Get ready for the next request."""
        self.begun = False
        self.on_begin = on_begin

    def cut(self) -> None:
        """Shut every socket down; may be called from another thread."""
        self._cut = True
        for connection in list(self._connections):
            if connection.sock is not None:
                cut(connection.sock)

    def connecting(self, connection: HTTPConnection) -> None:
        """A connection is about to be opened."""
        if self._cut:
            raise ConnectionAbortedError("the time for this call is over")
        self._connections.add(connection)

    def sending(self) -> None:
        """Bytes are about to go out."""
        if not self.begun:
            if self.on_begin is not None:
                self.on_begin()
            self.begun = True


class _Adapter(HTTPAdapter):
    """Opens connections that tell their wire what they do."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Let the pools make our kinds of connection."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": _pool_class(HTTPConnectionPool, HTTPConnection, self._wire),
            "https": _pool_class(HTTPSConnectionPool, HTTPSConnection, self._wire),
        }


class _Watched(HTTPConnection):
    """Put before one of urllib3's kinds of connection."""

    wire: Wire

    def connect(self) -> None:
        self.wire.connecting(self)
        super().connect()

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()  # as http.client would, but before anything counts as begun
        self.wire.sending()
        super().send(data)


def _pool_class(pool: type[HTTPConnectionPool], kind: type[HTTPConnection], wire: Wire) -> type:
    connection = type("WatchedConnection", (_Watched, kind), {"wire": wire})
    return type("WatchedPool", (pool,), {"ConnectionCls": connection})


# -- what errors mean -----------------------------------------------------------------------

# What requests would not even begin to send: a line break in a key, a URL without a scheme. Like
# all its errors they are OSErrors, and yet no trouble of the network's.
_MALFORMED = (
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.URLRequired,
)


def judge_network(
    error: Exception,
    *,
    begun: bool,
    clean: Callable[[str], str],
    cause: BaseException | None = None,
) -> Outcome:
    """The outcome of an error that came instead of an answer.

    `begun` is false when surely nothing had gone out. `clean` takes out of a text what must not
    be kept; `cause` is the error to describe, when `error` itself quotes too much.
    """
    name = type(error).__qualname__
    faults = [each for each in _unwrap(error) if isinstance(each, _MALFORMED)]
    if faults and not begun:
        # Its own words quote what it dislikes, which may be the key.
        text = f"the settings make a request that cannot be sent: {type(faults[-1]).__qualname__}"
        return Outcome(Verdict.HOLD, code="setup", text=text, theirs=True, error=name)
    text = clean(describe(cause or error))
    code = name_network_error(error)
    if code in ("refused", "dns") or (code and not begun):
        return Outcome(Verdict.LATER, code=code, text=text, theirs=True, error=name)
    if code:
        return Outcome(Verdict.UNKNOWN, code=code, text=text, theirs=True, error=name)
    verdict = Verdict.UNKNOWN if begun else Verdict.LATER
    return Outcome(verdict, text=text, error=name, traceback=safe_traceback(error))


def name_network_error(error: BaseException) -> str:
    """One word for a network error, from whichever error it was wrapped in; empty for others."""
    chain = _unwrap(error)
    for kind in (ConnectionRefusedError, socket.gaierror, ssl.SSLError):
        for each in chain:
            if isinstance(each, kind):
                return network_code(each)
    if any(isinstance(each, requests.Timeout | TimeoutError) for each in chain):
        return "timeout"
    return "disconnected" if any(isinstance(each, OSError) for each in chain) else ""


def _unwrap(error: BaseException) -> list[BaseException]:
    """The error, and those it was raised for."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    return chain
