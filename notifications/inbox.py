"""What a user of the site has been told in the app: list it, count what is unread, mark it read.

The row is the message. It is `delivered` as soon as it is written (a later one when its time
comes, by the clock) and `read` when its reader says so. Its text is made here, when it is shown.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import router
from django.db.models import Q, QuerySet, Subquery
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from notifications import conf
from notifications.kinds import Kind, get_kind
from notifications.message import Note
from notifications.models import Notification, Priority, State
from notifications.redaction import describe

logger = logging.getLogger("notifications.inbox")

MOST = 100  # unread messages are counted up to here
PAGE = 20
BATCH = 1000  # rows delivered by one statement

Reader = AbstractBaseUser | AnonymousUser


@dataclass(frozen=True, slots=True)
class Item:
    """One message of an inbox."""

    id: int
    title: str
    text: str
    link: str  # a path of the site or http(s); empty for nowhere
    type: str  # the kind's name
    read: bool
    at: datetime  # when it appeared


def inbox(user: Reader, *, limit: int = PAGE, before: int | None = None) -> list[Item]:
    """The newest `limit` messages of `user`, newest first; those older than the message `before`.

    Takes one query, and what the kinds load. A message whose text cannot be made (what it is about
    was deleted) says so instead of hiding the others.
    """
    rows = _shown(user)
    if before is not None:
        # Compared in the database: SQLite keeps times as text, and Python would add digits.
        last = Subquery(rows.filter(pk=before).values("wanted_at"))
        rows = rows.filter(Q(wanted_at__lt=last) | Q(wanted_at=last, pk__lt=before))
    page = list(rows.defer("content").order_by("-wanted_at", "-pk")[:limit])
    notes = dict(_notes(page))
    return [_item(row, notes.get(row.pk)) for row in page]


def unread_count(user: Reader, *, most: int = MOST) -> int:
    """How many messages `user` has not read; counts no further than `most`."""
    if user.pk is None:
        return 0
    return _shown(user).filter(state=State.DELIVERED).order_by()[:most].count()


def mark_read(user: Reader, ids: Collection[int] | Literal["all"]) -> int:
    """Mark messages of `user` read, those with these ids or all; how many were unread.

    Ids of others' messages are left alone, as if they did not exist.
    """
    rows = _shown(user, using=router.db_for_write(Notification)).filter(state=State.DELIVERED)
    if ids != "all":
        rows = rows.filter(pk__in=ids)
    return rows.update(state=State.READ, settled_at=Now())


def deliver_due() -> int:
    """Deliver the messages that were written for later and are due now; how many."""
    kept = [name for name, each in conf.channels().items() if each.channel.kept]
    if not kept:
        return 0
    rows = Notification.objects.using(router.db_for_write(Notification)).filter(
        queue="",
        priority__in=Priority.values,  # for the claim index, as `outbox.claim` uses it
        state=State.PENDING,
        due_at__lte=Now(),
        channel__in=kept,
    )
    delivered = 0
    while ids := list(rows.values_list("pk", flat=True)[:BATCH]):
        delivered += rows.filter(pk__in=ids).update(state=State.DELIVERED, settled_at=Now())
    return delivered


def _shown(user: Reader, *, using: str | None = None) -> QuerySet[Notification]:
    rows = Notification.objects.using(using or router.db_for_read(Notification))
    if user.pk is None:
        return rows.none()
    return rows.filter(
        Q(expires_at=None) | Q(expires_at__gt=Now()),
        user_id=user.pk,
        channel="in_app",
        state__in=[State.DELIVERED, State.READ],
    )


def _item(row: Notification, note: Note | None) -> Item:
    read = row.state == State.READ
    if note is None:
        gone = _("This message can no longer be shown.")
        return Item(row.pk, gone, "", "", row.kind, read, row.wanted_at)
    return Item(row.pk, note.title, note.text, note.link, note.type, read, row.wanted_at)


def _notes(rows: Iterable[Notification]) -> Iterator[tuple[int, Note]]:
    """The note of each row that has one, what it shows loaded for all rows of a kind at once."""
    by_kind: dict[str, list[Notification]] = {}
    for row in rows:
        by_kind.setdefault(row.kind, []).append(row)
    channel = conf.channel("in_app").channel
    for name, alike in by_kind.items():
        for row, kind, context in _contexts(name, alike):
            try:
                yield row.pk, channel.compose(row, kind, context)
            except Exception as error:
                _complain([row], error)


def _contexts(
    name: str, rows: Sequence[Notification]
) -> Iterator[tuple[Notification, type[Kind], Mapping[str, Any]]]:
    """One bad row must not take its neighbours along."""
    try:
        kind = get_kind(name)
        if kind.secret:
            raise LookupError("a secret does not stay in an inbox")
        contexts = list(kind.prepare(rows))
    except Exception as error:
        if len(rows) == 1:
            _complain(rows, error)
        else:
            for row in rows:
                yield from _contexts(name, [row])
        return
    for row, context in zip(rows, contexts, strict=True):
        yield row, kind, context


def _complain(rows: Sequence[Notification], error: Exception) -> None:
    logger.warning("notification %s cannot be shown: %s", rows[0].pk, describe(error))
