"""Which rows a query means: by an index, or among the newest."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.functions import Now, Upper
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from notifications import conf
from notifications.bounds import floor_of
from notifications.models import Attempt, DeadLetter, Notification, State, Task
from notifications.models.work import FAILED
from notifications.rest.base import may

FOUND = 1000  # messages that one provider's id brings up

# Of a queue's rows, those that a person calls so. Claimed rows are due at the end of their lease.
JOBS = {
    "waiting": Q(state=State.PENDING, due_at__lte=Now()),
    "active": Q(state=State.PENDING, due_at__gt=Now(), token__isnull=False),
    "delayed": Q(state=State.PENDING, due_at__gt=Now(), token=None),
    "completed": Q(state__in=[State.SENT, State.DELIVERED, State.READ, State.DONE]),
    "failed": Q(state__in=FAILED),
}


def notifications(asked: Mapping[str, Any], request: Request) -> QuerySet[Notification]:
    """The messages that the query names. Raises PermissionDenied for one by address without the
    right to see it."""
    rows, indexed = _named(Notification, asked, ("kind", "channel"))
    if "to" in asked:
        if not may(request, "view_content"):
            raise PermissionDenied("Who looks for an address must be allowed to see it.")
        rows = rows.alias(address=Upper("to")).filter(address=asked["to"].upper())
    if "message_id" in asked:
        of = Attempt.objects.filter(message_id=asked["message_id"], notification__isnull=False)
        keys = of.exclude(message_id="").values_list("notification_id", flat=True)
        rows = rows.filter(pk__in=list(keys[:FOUND]))
    bound = bool(asked) and not (indexed or {"to", "message_id"} & asked.keys())
    return (_newest(rows) if bound else rows).defer("content")


def tasks(asked: Mapping[str, Any]) -> QuerySet[Task]:
    """The tasks that the query names."""
    rows, indexed = _named(Task, asked, ("name", "topic"))
    return _newest(rows) if asked and not indexed else rows


def letters(asked: Mapping[str, Any]) -> QuerySet[DeadLetter]:
    """The dead letters with these values."""
    rows = DeadLetter.objects.filter(**asked).defer("traceback")
    return rows if asked.keys() <= {"queue", "fingerprint"} else _newest(rows)


def jobs(queue: str, state: str) -> QuerySet[Any]:
    """Messages or tasks in `queue` that are waiting, active, delayed, completed or failed."""
    model = Task if conf.channel_of_queue(queue) is None else Notification
    rows = model._default_manager.filter(JOBS[state], queue=queue)
    return rows if state == "failed" else _newest(rows)


def window_of(until: Any, now: Any) -> timedelta | None:
    """How long it is until then."""
    return None if until is None else until - now


def _named(
    model: Any, asked: Mapping[str, Any], columns: tuple[str, ...]
) -> tuple[QuerySet[Any], bool]:
    """The rows with these values, and whether an index leads to them."""
    rows = model._default_manager.all()
    for name in ("state", "queue", *columns):
        if name in asked:
            rows = rows.filter(**{name: asked[name]})
    if "about" in asked:
        label, _colon, key = asked["about"].partition(":")
        rows = rows.filter(about_type=label, about_id=key).exclude(about_id="")
    if "key" in asked:
        rows = rows.filter(key=asked["key"])
        if model is Notification:  # the index begins with the channel
            rows = rows.filter(channel__in=conf.channels())
    failed = asked.get("state") in FAILED
    return rows, failed or "about" in asked or (model is Notification and "key" in asked)


def _newest(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows.filter(pk__gt=floor_of(rows.model))
