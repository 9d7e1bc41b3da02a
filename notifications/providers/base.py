"""What a provider is: one configured service that carries composed messages.

A provider is written as a `Provider` (its settings, checked once) and a `Session` (its open
connection, used by one thread). The least a new provider needs is `Session.send`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from django.core.checks import CheckMessage

from notifications.errors import NoCallbacks
from notifications.message import Fate, Found, Outcome, Report, Verdict

M = TypeVar("M")


class Lane(Protocol[M]):
    """One thread's way through the waiting messages, seen by the session that serves it."""

    def take(self, *, wait: bool = True) -> M | None:
        """The next message; None when the lane closes, or with `wait=False` when none waits."""

    def begin(self, message: M) -> None:
        """Say that the provider may accept `message` now: an end without `report` is unknown.

        Raises what the session must let pass, without handing the message over, when there is not
        the time left for it.
        """

    def report(self, message: M, outcome: Outcome) -> None:
        """Say what became of a message that was taken."""

    def give_back(self, message: M) -> None:
        """Return a message that was taken but not begun; another lane sends it."""


class Session(Generic[M]):
    """An open connection to a provider. Used by one thread; `abort` may come from another."""

    def send(self, message: M) -> Outcome:
        """Hand over one message and tell what came of it. Exceptions count as unknown outcomes."""
        raise NotImplementedError

    def work(self, lane: Lane[M]) -> None:
        """Send until the lane closes, one message after the other."""
        while (message := lane.take()) is not None:
            lane.begin(message)
            lane.report(message, self.send(message))

    def abort(self) -> None:
        """Close the sockets at once, called by the watching thread when a call's time is over."""

    def close(self) -> None:
        """Say goodbye and close. Never raises."""


@dataclass(frozen=True, slots=True)
class Callback:
    """A request that says it comes from a provider."""

    method: str  # "GET", "HEAD" or "POST"
    url: str  # absolute, as the provider knows it
    headers: Mapping[str, str]  # names in lower case
    query: Mapping[str, str]
    body: bytes


class Provider(Generic[M]):
    """One entry of NOTIFICATIONS["PROVIDERS"]; built once a process, shared by its threads."""

    channels: tuple[str, ...] = ()  # the channels whose messages it can carry

    def __init__(self, name: str, *, timeout: float, options: Mapping[str, Any]) -> None:
        self.name = name
        self.timeout = timeout  # seconds one call may take in all; the library timeouts stay below
        self.options = options

    @property
    def service(self) -> str:
        """What Anymail calls the service whose tracking signals are about its messages; empty for
        what hears of them by other ways alone."""
        return ""

    @property
    def server(self) -> str:
        """Where it hands mail over, as `mail_servers` names it; empty for what carries no mail."""
        return ""

    def connect(self) -> Session[M]:
        """A new session. May connect lazily; what it raises is judged by `judge`."""
        raise NotImplementedError

    def judge(self, error: Exception) -> Outcome:
        """The outcome that an exception from `connect` or `send` stands for."""
        return Outcome(Verdict.UNKNOWN, error=type(error).__qualname__, theirs=False)

    def receive(self, callback: Callback) -> Sequence[Report] | str:
        """The reports in a callback, or the text of the answer to a handshake.

        Raises Forged (the signature is wrong), NoCredentials (no name and password came along),
        NotConfigured (no secret to check it with), BadCallback (signed, but not understood) and
        NoCallbacks (this provider sends none).
        """
        raise NoCallbacks(f"The provider {self.name!r} takes no callbacks.")

    def read_templates(self) -> Iterable[Mapping[str, Any]]:
        """The message templates that the provider has approved, as its API tells them."""
        return ()

    def read_suppressions(self) -> Iterable[tuple[Fate, str]]:
        """Addresses that the provider would refuse: each with BOUNCED, COMPLAINED or OPTED_OUT."""
        return ()

    def look_up(self, to: str, since: datetime, until: datetime) -> Sequence[Found] | None:
        """The messages it took for the address `to` between the two, and what became of each; None
        if it cannot tell them all. Raises what its client raises."""
        return None

    def identify(self, message: M) -> str:
        """What `look_up` recognises `message` by: its sender and its words. Only a hash of it is
        kept. Empty for a provider that cannot be asked."""
        return ""

    def check(self) -> list[CheckMessage]:
        """System check messages about its options."""
        return []
