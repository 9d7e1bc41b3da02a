"""What happened to a row, in the words and colours of its page, and what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from notifications.admin.standing import judge, soon
from notifications.models import Notification, State, Task
from notifications.models.attempt import OUTCOMES
from notifications.models.receipt import FATES
from notifications.outbox import PARKED
from notifications.timeline import Line, timeline

_TONES = {
    "accepted": "good", "done": "good", "later": "warn", "unknown": "warn", "hold": "warn",
    "permanent": "bad",
}  # fmt: skip
_FATES = {
    "delivered": "good", "read": "good", "deferred": "warn", "failed": "bad", "bounced": "bad",
    "complained": "bad", "opted_out": "warn",
}  # fmt: skip
_TOLD_BY_ATTEMPT = {State.SENT, State.DONE}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the page."""

    at: datetime
    title: str
    tone: str = "off"
    detail: str = ""


def entries(row: Notification | Task, *, revealed: bool) -> list[Entry]:
    """All that is known of `row`, newest first; `revealed` as in `timeline`."""
    lines = timeline(row, revealed=revealed)
    told = _is_end_told(row, lines)
    return [
        *_next(row),
        *(_entry(row, line) for line in lines if not (told and line.what == "ended")),
    ]


def _is_end_told(row: Notification | Task, lines: Sequence[Line]) -> bool:
    """Whether what led to the end says it already."""
    if State(row.state) in _TOLD_BY_ATTEMPT:
        return True
    if row.state == State.CANCELLED:
        return any(line.what == "person" for line in lines)
    return any(line.what == "receipt" and line.outcome == row.state for line in lines)


def _entry(row: Notification | Task, line: Line) -> Entry:
    match line.what:
        case "attempt":
            return _attempt(line)
        case "receipt":
            return _report(line)
        case "person":
            return Entry(line.at, f"{line.text} – {line.by}")
        case "ended":
            standing = judge(row)
            return Entry(line.at, str(capfirst(standing.word)), standing.tone, line.text or "")
    return Entry(line.at, _("Asked for"))


def _attempt(line: Line) -> Entry:
    outcome = str(line.outcome)
    words = [dict(OUTCOMES)[outcome], line.provider and _("by %s") % line.provider]
    title = _("Attempt %(number)d: %(words)s") % {
        "number": line.number,
        "words": " ".join(str(word) for word in words if word),
    }
    took = _("%d ms") % line.milliseconds
    detail = " · ".join(word for word in (_answer(line), line.message_id, took) if word)
    return Entry(line.at, title, _TONES[outcome], detail)


def _report(line: Line) -> Entry:
    fate = str(line.outcome)
    words = {"fate": dict(FATES)[fate], "provider": line.provider}
    title = _("%(provider)s reports: %(fate)s") % words
    return Entry(line.at, title, _FATES.get(fate, "off"), _answer(line))


def _answer(line: Line) -> str:
    return " ".join(word for word in (line.code, line.text) if word)


def _next(row: Notification | Task) -> Iterator[Entry]:
    if row.state != State.PENDING or row.token is not None or row.due_at >= PARKED:
        return
    if row.due_at > timezone.now():
        title = _("Next attempt") if row.attempts else _("First attempt")
        yield Entry(row.due_at, f"{title} {soon(row.due_at)}", "wait")
