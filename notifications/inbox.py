"""What a user of the site has been told in the app: list it, count what is unread, mark it read.

The row is the message. It is `delivered` as soon as it is written (a later one when its time
comes, by the clock) and `read` when its reader says so. Its text is made here, when it is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import router
from django.db.models import Q, QuerySet, Subquery
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from notifications import conf, signals
from notifications.composition import compose
from notifications.kinds import all_kinds
from notifications.message import Note
from notifications.models import Notification, Priority, State

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
    notes = _notes(page)
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
        if signals.completed.heard:
            told = Notification.objects.using(rows.db).filter(pk__in=ids).defer("content")
            signals.completed.tell_rows(told, using=rows.db, state=State.DELIVERED.value)
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


def _notes(rows: Sequence[Notification]) -> dict[int, Note]:
    """The notes of those rows that have one, by primary key."""
    composition = compose(
        [row for row in rows if _is_showable(row)], conf.channel("in_app").channel
    )
    return {each.row.pk: each.message for each in composition.composed}


def _is_showable(row: Notification) -> bool:
    """Whether its kind is still there, and has not come to make secrets."""
    kind = all_kinds().get(row.kind)
    return kind is not None and not kind.secret
