"""When a message cannot reach somebody on one channel, the next channel of its kind takes over.

    channels = Fallback("whatsapp", "sms", "email")

One row at first, on the first channel that the recipient has an address for; the others wait in
its `fallback`, with their addresses. When it ends unsent (dead, suppressed) or a receipt says that
it did not arrive (bounced, failed), `follow` writes the row of the next channel in the same
transaction. A unique constraint on `instead_of` keeps it from being written twice.
"""

from __future__ import annotations

import logging

from notifications import conf, rings
from notifications.errors import UnknownChannel
from notifications.models import Notification, State

logger = logging.getLogger("notifications.fallback")

# Ends after which the next channel may still be of use. What is unknown may have arrived; what was
# cancelled or came too late is wanted on no channel.
UNREACHED = frozenset((State.DEAD, State.SUPPRESSED, State.BOUNCED))


def follow(row: Notification, using: str) -> Notification | None:
    """Write the message on the next channel for a row that has just ended in UNREACHED.

    To be called in the transaction (on database `using`) that ended the row, by whoever won that
    move. Returns the new row; None if there is no channel left, or its message exists already.
    """
    rows = Notification.objects.using(using)
    # As they stand now: an address may have been erased while the message was under way. None for a
    # row that has its successor: a person retried it, and it ended again.
    now = rows.filter(pk=row.pk, successors=None).only("fallback").first()
    ways: list[tuple[str, str]] = (now and now.fallback) or []
    for place, (channel, address) in enumerate(ways):
        try:
            queue = conf.channel(channel).queue
        except UnknownChannel:  # gone since the row was written
            logger.warning("notification %s: no channel %s to fall back to", row.pk, channel)
            continue
        rows.bulk_create(
            [
                Notification(
                    kind=row.kind,
                    channel=channel,
                    queue=queue,
                    to=address,
                    user_id=row.user_id,
                    language=row.language,
                    context=row.context,
                    fallback=ways[place + 1 :] or None,
                    instead_of_id=row.pk,
                    priority=row.priority,
                    retry=row.retry,
                    key=row.key,
                    about_type=row.about_type,
                    about_id=row.about_id,
                    trace=row.trace,
                    event_id=row.event_id,
                    expires_at=row.expires_at,
                )
            ],
            ignore_conflicts=True,
        )
        successor = rows.filter(instead_of_id=row.pk).first()
        if successor is None:  # a message with the same key is on that channel
            return None
        logger.info("notification %s follows %s on %s", successor.pk, row.pk, channel)
        rings.ring_on_commit(queue, using)
        return successor
    return None
