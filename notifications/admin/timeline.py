"""What happened to a row, newest first: what comes, each attempt, what the provider reported later,
what people did, its request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from notifications.admin.standing import judge, soon
from notifications.models import Notification, Receipt, State, Task
from notifications.outbox import PARKED

SHOWN = 100  # attempts, and as many receipts and deeds of people
TOGETHER = timedelta(seconds=1)

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
    """One line of the timeline."""

    at: datetime
    title: str
    tone: str = "off"
    detail: str = ""


def timeline(row: Notification | Task) -> list[Entry]:
    """All that is known of `row`, newest first; three queries."""
    people, attempts = list(_people(row)), list(_attempts(row))
    receipts = list(_newest(row.receipt_set)) if isinstance(row, Notification) else []
    told = bool(people) and row.state == State.CANCELLED
    told |= any(receipt.fate == row.state for receipt in receipts)
    entries = [
        Entry(row.created_at, _("Asked for")),
        *attempts,
        *_end(row, attempts, told=told),
        *map(_report, receipts),
        *people,
        *_next(row),
    ]
    return sorted(entries, key=lambda entry: entry.at)[::-1]  # of two at one time, the later


def _attempts(row: Notification | Task) -> Iterator[Entry]:
    for each in _newest(row.attempt_set):
        words = [each.get_outcome_display(), each.provider and _("by %s") % each.provider]
        title = _("Attempt %(number)d: %(words)s") % {
            "number": each.number,
            "words": " ".join(str(word) for word in words if word),
        }
        took = _("%d ms") % each.milliseconds
        answer = " ".join(word for word in (each.code, each.text) if word)
        detail = " · ".join(word for word in (answer, each.message_id, took) if word)
        yield Entry(each.created_at, title, _TONES[each.outcome], detail)


def _report(receipt: Receipt) -> Entry:
    words = {"fate": receipt.get_fate_display(), "provider": receipt.provider}
    return Entry(
        receipt.at or receipt.received_at,
        _("%(provider)s reports: %(fate)s") % words,
        _FATES.get(receipt.fate, "off"),
        " ".join(word for word in (receipt.code, receipt.text) if word),
    )


def _newest(rows: Any) -> Any:
    """The SHOWN newest, the oldest of them first."""
    return reversed(rows.order_by("-id")[:SHOWN])


def _end(row: Notification | Task, attempts: Sequence[Entry], *, told: bool) -> Iterator[Entry]:
    if row.settled_at is None or told or State(row.state) in _TOLD_BY_ATTEMPT:
        return
    standing = judge(row)
    # The attempt that led here was written in the same transaction, some of a second later.
    written = [each.at for each in attempts if each.at - row.settled_at < TOGETHER]
    at = max([row.settled_at, *written])
    yield Entry(at, str(capfirst(standing.word)), standing.tone, row.reason)


def _people(row: Notification | Task) -> Iterator[Entry]:
    deeds = LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(row), object_id=str(row.pk)
    ).select_related("user")
    for deed in _newest(deeds):
        yield Entry(deed.action_time, f"{deed.get_change_message()} – {deed.user}")


def _next(row: Notification | Task) -> Iterator[Entry]:
    if row.state != State.PENDING or row.token is not None or row.due_at >= PARKED:
        return
    if row.due_at > timezone.now():
        title = _("Next attempt") if row.attempts else _("First attempt")
        yield Entry(row.due_at, f"{title} {soon(row.due_at)}", "wait")
