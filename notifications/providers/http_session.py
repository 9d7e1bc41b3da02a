"""One connection to an API over HTTP, kept open, whose calls can be timed and cut.

`requests` on the watched sockets of `http_wire`: those tell whether anything had gone out, and can
be cut when a call's whole time is over. No redirect is followed and no proxy asked: keys and
messages go to the configured host alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import requests

from notifications.message import Outcome, Verdict
from notifications.providers.base import Lane, Session
from notifications.providers.http_wire import Wire, judge_network

M = TypeVar("M")


def open_client() -> tuple[requests.Session, Wire]:
    """A client, and its wire."""
    client = requests.Session()
    client.trust_env = False  # no proxy, and no key from a .netrc
    wire = Wire()
    wire.attach(client)
    return client, wire


class HttpSession(Session[M]):
    """Says how one call goes; subclasses say what it asks and what the answer means."""

    def __init__(self, client: requests.Session, wire: Wire) -> None:
        self.client = client
        self._wire = wire
        self._aborted = False

    def refuse(self, message: M) -> Outcome | None:
        """What becomes of a message that must not be sent at all; None for all others."""
        return None

    def ask(self, message: M) -> requests.Response:
        """Send one request. Raises what the client raises."""
        raise NotImplementedError

    def read(self, answer: requests.Response, message: M) -> Outcome:
        """What an answer means."""
        raise NotImplementedError

    def clean(self, text: str, message: M) -> str:
        """`text` without keys, and without what `message` says and to whom."""
        raise NotImplementedError

    def work(self, lane: Lane[M]) -> None:
        """Send until the lane closes."""
        while (message := lane.take()) is not None:
            lane.report(message, self._send(message, partial(lane.begin, message)))

    def send(self, message: M) -> Outcome:
        """Send one message and tell what came of it."""
        return self._send(message, lambda: None)

    def abort(self) -> None:
        """Cut the connection under the thread that uses it."""
        self._aborted = True
        self._wire.cut()

    def close(self) -> None:
        """Close the connection."""
        with suppress(Exception):  # whatever the sockets raise: we are done with them
            self.client.close()

    def _send(self, message: M, begin: Callable[[], None]) -> Outcome:
        if (refusal := self.refuse(message)) is not None:
            return refusal
        self._wire.reset(begin)
        try:
            answer = self.ask(message)
        except Exception as error:
            clean = partial(self.clean, message=message)
            outcome = judge_network(error, begun=self._wire.begun, clean=clean)
        else:
            outcome = self.read(answer, message)
        if self._aborted:  # what was read may be half an answer
            return Outcome(Verdict.UNKNOWN, code="aborted", theirs=True)
        return outcome


def read_json(answer: requests.Response) -> object:
    """The JSON of an answer; None if it is none."""
    try:
        return answer.json()
    except ValueError:
        return None
