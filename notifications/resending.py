"""A message that went out, sent once more: a new row, linked to the first.

Unlike a retry, which gives the same row another chance, this means that the recipient gets the
message twice. What it says is composed anew.
"""

from __future__ import annotations

from django.db import models, router, transaction
from django.db.models.functions import Now

from notifications import conf, inserts, rings, tracing
from notifications.errors import WrongState
from notifications.judgement import find_kind
from notifications.models import Notification, State

# Where a message stands that went out, or may have. What surely did not is retried instead.
RESENT = frozenset(
    (
        State.SENT, State.DELIVERED, State.READ, State.UNKNOWN, State.BOUNCED, State.COMPLAINED,
    )
)  # fmt: skip


def copy(row: Notification, *, key: str) -> tuple[Notification, bool]:
    """The new message, and whether this call made it: with the same `key` it is made once.

    Raises WrongState for a row that did not go out, and for one whose content was erased.
    """
    using = router.db_for_write(Notification)
    rows = Notification.objects.using(using)
    key = f"resend-{row.pk}-{key}"
    with transaction.atomic(using=using):
        first = rows.get(pk=row.pk)
        if first.state not in RESENT:
            raise WrongState(f"{first} is {first.state}: only what went out can be sent again.")
        if first.erased_at is not None:
            raise WrongState(f"{first} was erased: there is nothing left to send.")
        if not first.kind and first.content is None:
            raise WrongState(f"The content of {first} was erased when it was sent.")
        before = rows.filter(channel=first.channel, key=key).first()
        if before is not None:
            return before, False
        inserts.insert([_again(first, key)], using=using, ignore_conflicts=True, filled=False)
        rings.ring_on_commit(first.queue, using)
        return rows.get(channel=first.channel, key=key), True


def _again(first: Notification, key: str) -> Notification:
    kind = find_kind(first.kind)
    again = Notification(
        kind=first.kind,
        channel=first.channel,
        queue=first.queue,
        to=first.to,
        user_id=first.user_id,
        language=first.language,
        context=first.context,
        content=first.content,
        resend_of_id=first.pk,
        priority=first.priority,
        retry=first.retry,
        key=key,
        about_type=first.about_type,
        about_id=first.about_id,
        trace=tracing.parent(),
        event_id=first.event_id,
    )
    if kind is not None and kind.expires_after is not None:
        again.expires_at = models.ExpressionWrapper(
            Now() + kind.expires_after, output_field=models.DateTimeField()
        )
    if conf.channel(first.channel).channel.kept:
        again.state, again.settled_at = State.DELIVERED, Now()
    return again
