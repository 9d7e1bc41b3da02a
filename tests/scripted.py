"""A channel and a provider for tests of the flow: the provider answers what the test told it.

Providers with real sockets behind them are tested in their own files; here the flow around a
provider is what matters, and the flow only ever sees its outcomes.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.test import override_settings

from notifications import health, holds, turnstile
from notifications.channels.base import Channel
from notifications.errors import InvalidAddress
from notifications.kinds import Kind
from notifications.message import Outcome, Verdict
from notifications.models import Notification
from notifications.providers.base import Provider, Session

ACCEPTED = Outcome(Verdict.ACCEPTED, code="250")
LATER = Outcome(Verdict.LATER, code="451", text="busy")
THEIRS = Outcome(Verdict.LATER, code="503", text="down", theirs=True)
REFUSED = Outcome(Verdict.PERMANENT, code="550", text="no such user")
LOCKED = Outcome(Verdict.HOLD, code="535", text="bad password", theirs=True)
LOST = Outcome(Verdict.UNKNOWN, code="", text="connection lost")

Answer = Outcome | Exception | Callable[[], Outcome]


@dataclass
class Script:
    """What the providers answer, by address, and what they were given."""

    answers: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    sent: list[tuple[str, int]] = field(default_factory=list)  # provider, row
    most_at_once: int = 0
    at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, address: str, *answers: Answer) -> None:
        """Answer so, one after the other; the last one for ever."""
        self.answers[address] = list(answers)

    def send(self, provider: str, message: Sent) -> Outcome:
        with self._lock:
            self.sent.append((provider, message.row))
            waiting = self.answers[f"{provider}:{message.to}"] or self.answers[message.to]
            answer = waiting.pop(0) if len(waiting) > 1 else next(iter(waiting), ACCEPTED)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if isinstance(answer, Exception):
                raise answer
            return answer if isinstance(answer, Outcome) else answer()
        finally:
            with self._lock:
                self.at_once -= 1

    def rows(self) -> list[int]:
        return [row for _provider, row in self.sent]


SCRIPT = Script()


@dataclass(frozen=True)
class Sent:
    """A composed message of the test channel."""

    row: int
    to: str
    context: Mapping[str, Any]


class NoteChannel(Channel):
    """Addresses are anything with an @."""

    name = "note"

    def address_of(self, user: Any) -> str:
        return str(user.email)

    def clean(self, address: str) -> str:
        if "@" not in address:
            raise InvalidAddress("an address has an @")
        return address

    def compose(
        self, row: Notification, kind: type[Kind] | None, context: Mapping[str, Any]
    ) -> Sent:
        return Sent(row.pk, row.to, context)


class _ScriptedSession(Session[Sent]):
    def __init__(self, name: str) -> None:
        self.name = name

    def send(self, message: Sent) -> Outcome:
        return SCRIPT.send(self.name, message)


class Scripted(Provider[Sent]):
    """Answers from SCRIPT."""

    channels = ("note",)

    def connect(self) -> Session[Sent]:
        return _ScriptedSession(self.name)


class Note(Kind):
    """A kind on the test channel."""

    name = "test_note"
    channels = ("note",)


SETTINGS: dict[str, Any] = {
    "ENVIRONMENT": "test",
    "RECIPIENTS": "*",
    "CHANNELS": {
        "note": {
            "BACKEND": "tests.scripted.NoteChannel",
            "QUEUE": "note",
            "PROVIDERS": ["first"],
        },
    },
    "PROVIDERS": {
        "first": {"BACKEND": "tests.scripted.Scripted"},
        "second": {"BACKEND": "tests.scripted.Scripted"},
    },
    "RETRY": {"RETRIES": 3, "BASE": 0.0, "JITTER": 0.0},
}


@contextmanager
def scripted(**changes: Any) -> Iterator[Script]:
    """Run the test channel; `changes` go into its entry of CHANNELS, or in NOTIFICATIONS if they
    are written in capitals with a leading underscore, as in `_LEASE=3`."""
    SCRIPT.__init__()  # type: ignore[misc]
    channel = {name: value for name, value in changes.items() if not name.startswith("_")}
    rest = {name[1:]: value for name, value in changes.items() if name.startswith("_")}
    note = {**SETTINGS["CHANNELS"]["note"], **channel}
    queues = {name: {"URL": "redis://127.0.0.1:1/0"} for name in ("default", "note", "host")}
    with override_settings(
        NOTIFICATIONS={**SETTINGS, "CHANNELS": {"note": note}, **rest}, RQ_QUEUES=queues
    ):
        forget()
        yield SCRIPT
    forget()


def forget() -> None:
    """What this process knows of the database, and who has asked it how."""
    holds.forget()
    health.forget()
    turnstile.health.reset()
