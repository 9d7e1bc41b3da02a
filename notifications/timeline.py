"""What happened to a row: its request, each attempt, what the provider reported later, what people
did, its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType

from notifications.models import Notification, Task
from notifications.redaction import mask

SHOWN = 100  # attempts, and as many receipts and deeds of people: the newest
TOGETHER = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened; what does not apply is None."""

    at: datetime
    what: str  # asked, attempt, receipt, person or ended
    number: int | None = None  # of an attempt, from 1
    provider: str | None = None
    outcome: str | None = None  # an attempt's; or the receipt's fate, or the state
    code: str | None = None  # the provider's
    text: str | None = None  # what the provider answered, what a person did, or why it ended
    message_id: str | None = None  # the provider's
    milliseconds: int | None = None  # how long an attempt took
    by: str | None = None  # the person


def timeline(row: Notification | Task, *, revealed: bool) -> list[Line]:
    """All that is known of `row`, newest first; three queries.

    Unless `revealed`, for people without `view_content`, the providers' ids are masked as
    recipients are: WhatsApp's hold the phone's number.
    """
    tried = attempts(row, revealed=revealed)
    lines = [
        Line(row.created_at, "asked"),
        *tried,
        *_end(row, tried),
        *_receipts(row, revealed=revealed),
        *_people(row),
    ]
    return sorted(lines, key=lambda line: line.at)[::-1]  # of two at one time, the later


def attempts(row: Notification | Task, *, revealed: bool) -> list[Line]:
    """The attempts alone, oldest first."""
    return [
        Line(
            each.created_at,
            "attempt",
            number=each.number,
            provider=each.provider,
            outcome=each.outcome,
            code=each.code,
            text=each.text,
            message_id=_shown(each.message_id, revealed=revealed),
            milliseconds=each.milliseconds,
        )
        for each in _newest(row.attempt_set)
    ]


def _end(row: Notification | Task, tried: Sequence[Line]) -> Iterator[Line]:
    if row.settled_at is None:
        return
    # The attempt that led here was written in the same transaction, some of a second later.
    written = [each.at for each in tried if each.at - row.settled_at < TOGETHER]
    yield Line(max([row.settled_at, *written]), "ended", outcome=row.state, text=row.reason)


def _receipts(row: Notification | Task, *, revealed: bool) -> Iterator[Line]:
    if isinstance(row, Task):
        return
    for each in _newest(row.receipt_set):
        yield Line(
            each.at or each.received_at,
            "receipt",
            provider=each.provider,
            outcome=each.fate,
            code=each.code,
            text=each.text,
            message_id=_shown(each.message_id, revealed=revealed),
        )


def _people(row: Notification | Task) -> Iterator[Line]:
    if not apps.is_installed("django.contrib.admin"):
        return
    deeds = apps.get_model("admin", "LogEntry")._default_manager.filter(
        content_type=ContentType.objects.get_for_model(row), object_id=str(row.pk)
    )
    for each in _newest(deeds.select_related("user")):
        yield Line(each.action_time, "person", text=each.get_change_message(), by=str(each.user))


def _newest(rows: Any) -> Any:
    """The SHOWN newest, the oldest of them first."""
    return reversed(rows.order_by("-pk")[:SHOWN])


def _shown(message_id: str, *, revealed: bool) -> str:
    return message_id if revealed or not message_id else mask(message_id)
