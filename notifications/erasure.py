"""Personal data taken out of messages; what became of them stays, and counts.

By the setting ERASE_AFTER, every night (`notifications.erase`), and for one person when asked.
An erased row keeps its kind, its states, times, attempts and codes. What it said, to whom, and the
provider's ids and answers are gone: a WhatsApp message id, for one, has the number inside.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import router, transaction
from django.db.models import Case, CharField, Q, QuerySet, Value, When
from django.db.models.functions import Cast, Concat, Now, Upper

from notifications import conf
from notifications.models import Attempt, DeadLetter, Notification, PushSubscription, Receipt, State
from notifications.retention import batches, made_before, still_among

# What has ended, and is not for a person to decide on.
SETTLED = (
    State.SENT, State.DELIVERED, State.READ, State.BOUNCED, State.COMPLAINED, State.SUPPRESSED,
    State.CANCELLED, State.EXPIRED,
)  # fmt: skip

OUR_WORDS = (State.SUPPRESSED, State.CANCELLED, State.EXPIRED)  # no provider gave their reason

BLANK: dict[str, Any] = {
    "to": "",
    # With the address gone, two messages of one key would be the same one.
    "key": Case(When(key__isnull=False, then=Concat(Value("erased-"), Cast("pk", CharField())))),
    "context": {},
    "content": None,
    "fallback": None,
    "reason": Case(When(state__in=OUR_WORDS, then="reason"), default=Value("")),
    "erased_at": Now(),
}


@dataclass(frozen=True, slots=True)
class Erased:
    """What the erasure of one person came to."""

    messages: int  # nothing personal is in them any more
    cancelled: int  # of these had not gone out, and will not
    busy: int  # in a worker's hands right now: ask again in a moment


def erase_old(*, dry_run: bool = False) -> int:
    """Erase what is in messages that ended longer than ERASE_AFTER ago; how many.

    Inboxes of the app keep theirs until RETENTION removes them: the row is what people read. Dead
    letters keep theirs until somebody has decided.
    """
    age = conf.get("ERASE_AFTER")
    if age is None:
        return 0
    before = Now() - conf.parse_duration(age)
    kept = [name for name, each in conf.channels().items() if each.channel.kept]
    rows = Notification.objects.filter(
        pk__lte=made_before(Notification, before),
        state__in=SETTLED,
        settled_at__lt=before,
        erased_at=None,
    ).exclude(channel__in=kept)
    if dry_run:
        return rows.count()
    erased = 0
    using = router.db_for_write(Notification)
    for ids in batches(rows):
        with transaction.atomic(using=using):
            erased += _blank(still_among(rows.using(using), ids))
    return erased


def erase_person(
    user: AbstractBaseUser | None = None,
    *,
    addresses: Collection[str] = (),
    dry_run: bool = False,
) -> Erased:
    """Erase what is in all messages to `user` and to `addresses`, whatever their state.

    What has not gone out is cancelled. Messages to an address that `user` has now count as theirs
    unless another user is named in them. What goes elsewhere falls back to these addresses no more.
    Their browsers are forgotten; suppressions stay, for they hold no address and the person does
    not want to be written to.
    """
    using = router.db_for_write(Notification)
    rows = _theirs(user, addresses)
    held = Q(token__isnull=False, started=True)
    if dry_run:
        waiting = rows.exclude(held).filter(state=State.PENDING).count()
        return Erased(rows.exclude(held).count(), waiting, rows.filter(held).count())
    _close_ways(user, addresses)  # first: what has gone on to one of them is then among `rows`
    messages = cancelled = 0
    for ids in batches(rows.exclude(held)):
        with transaction.atomic(using=using):
            # Locked in the order of their keys: a worker that claims them meanwhile finds no row.
            locked = rows.filter(pk__in=ids).exclude(held).order_by("pk").select_for_update()
            mine = list(locked.values_list("pk", flat=True))
            chosen = Notification.objects.using(using).filter(pk__in=mine)
            cancelled += chosen.filter(state=State.PENDING).update(
                state=State.CANCELLED, token=None, settled_at=Now(), reason="erased"
            )
            chosen.filter(state=State.UNKNOWN).update(state=State.DEAD, reason="erased")
            DeadLetter.objects.using(using).filter(notification__in=mine).delete()
            messages += _blank(mine)
            chosen.update(user=None)
    if user is not None:
        PushSubscription.objects.filter(user_id=user.pk).delete()
    return Erased(messages, cancelled, rows.filter(held).count())


def _blank(ids: Collection[int]) -> int:
    """Erase the rows with these keys, and what belongs to them; how many."""
    using = router.db_for_write(Notification)
    with transaction.atomic(using=using):
        Attempt.objects.using(using).filter(notification__in=ids).update(
            message_id="", text="", mark=""
        )
        Receipt.objects.using(using).filter(notification__in=ids).update(
            key=Concat(Value("erased-"), Cast("pk", CharField())), message_id="", text=""
        )
        rows: QuerySet[Notification] = Notification.objects.using(using).filter(pk__in=ids)
        return rows.update(**BLANK)


def _theirs(user: AbstractBaseUser | None, addresses: Collection[str]) -> QuerySet[Notification]:
    rows = Notification.objects.using(router.db_for_write(Notification))
    wanted = Q(address__in=[each.upper() for each in addresses])
    if user is not None:
        own = [each.upper() for each in _addresses_of(user)]
        wanted |= Q(user_id=user.pk) | Q(user=None, address__in=own)
    return rows.alias(address=Upper("to")).filter(wanted, erased_at=None)


def _close_ways(user: AbstractBaseUser | None, addresses: Collection[str]) -> None:
    """Take the person's addresses out of the ways that other messages may still go.

    One pass over the keys of the rows that have such ways, a batch at a time. An index would find
    them at once, and cost every message a write for what is asked once in a while.
    """
    given = {each.upper() for each in addresses}
    own = given if user is None else given | {each.upper() for each in _addresses_of(user)}
    using = router.db_for_write(Notification)
    rows = Notification.objects.using(using).filter(fallback__isnull=False, erased_at=None)
    for ids in batches(rows):
        batch = rows.filter(pk__in=ids).only("fallback", "user").order_by("pk")
        found = [row.pk for row in batch if _ways_beside(row, given, own) != row.fallback]
        if not found:
            continue
        with transaction.atomic(using=using):
            # Waited for: whoever settles one of them meanwhile goes the way that is left.
            for row in batch.filter(pk__in=found).select_for_update(no_key=True):
                left = _ways_beside(row, given, own) or None
                rows.filter(pk=row.pk).update(fallback=left)


def _ways_beside(row: Notification, given: Collection[str], own: Collection[str]) -> list[Any]:
    """The ways of `row` that do not lead to the person; their `own` addresses may be another's."""
    unwanted = own if row.user_id is None else given
    return [way for way in row.fallback or () if way[1].upper() not in unwanted]


def _addresses_of(user: AbstractBaseUser) -> Iterator[str]:
    for each in conf.channels().values():
        if not each.channel.kept:
            yield from each.channel.addresses_of(user)
