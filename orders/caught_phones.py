"""WhatsApp and text messages that the demo's servers kept instead of delivering them.

One JSON file a message, written by the demo's process, shown by the shop's under DEBUG; elsewhere
there is no such page. What became of a message is read from its row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from notifications.models import Notification, State

_TICKS = {State.DELIVERED: "✓✓", State.READ: "✓✓"}  # one for all others


@dataclass(frozen=True, slots=True)
class CaughtText:
    """One message as it is kept."""

    channel: str
    to: str
    text: str
    buttons: Sequence[str]
    notification: int
    at: float  # Unix time


@dataclass(frozen=True, slots=True)
class Bubble:
    """One message as people see it."""

    message: CaughtText
    at: datetime
    state: State
    ticks: str


@dataclass(frozen=True, slots=True)
class Phone:
    """The messages of one number, oldest first."""

    number: str
    bubbles: list[Bubble]


def keep(folder: Path, message: CaughtText) -> None:
    """Write a message into `folder`. A reader never sees half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{message.channel}-{message.notification:06}-{message.at:.6f}.json"
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(asdict(message)))
    draft.replace(path)


def read_all(folder: Path, *, most: int = 200) -> list[CaughtText]:
    """The newest messages of `folder`, oldest first."""
    messages = [CaughtText(**json.loads(path.read_text())) for path in folder.glob("*.json")]
    return sorted(messages, key=lambda each: each.at)[-most:]


def group(messages: Iterable[CaughtText]) -> list[Phone]:
    """The messages by phone, with what became of them."""
    ordered = sorted(messages, key=lambda each: (each.to, each.at))
    rows = Notification.objects.only("state").in_bulk([each.notification for each in ordered])

    def describe(message: CaughtText) -> Bubble:
        row = rows.get(message.notification)
        state = State(row.state) if row else State.SENT
        at = datetime.fromtimestamp(message.at, tz=UTC)
        return Bubble(message, at, state, _TICKS.get(state, "✓"))

    return [
        Phone(number, [describe(each) for each in theirs])
        for number, theirs in groupby(ordered, key=lambda each: each.to)
    ]


@require_GET
def phones(request: HttpRequest) -> HttpResponse:
    """All phones with their messages."""
    if not settings.CAUGHT_PHONES:
        raise Http404
    found = group(read_all(Path(settings.CAUGHT_PHONES)))
    return render(request, "orders/caught_phones.html", {"phones": found})
