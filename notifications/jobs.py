"""What RQ runs. These functions never raise: retries are decided in one place, and it is not RQ.

A ring's job is `serve(queue)`; it serves every queue of the worker that runs it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from django.db import close_old_connections

from notifications import conf, holds, outbox
from notifications.models import Notification, State
from notifications.redaction import safe_traceback
from notifications.service import Service, serve_safely

logger = logging.getLogger("notifications.jobs")

STOP = threading.Event()  # set when the worker shall stop: finish what is begun, return the rest

_queues: tuple[str, ...] = ()


def set_queues(names: Sequence[str]) -> None:
    """Say which queues this worker serves, in their order; told by our Worker."""
    global _queues
    _queues = tuple(names)


def serve(queue: str) -> None:
    """Serve this worker's queues, or `queue` alone where the worker is not ours."""
    try:
        serve_safely(Service(_queues or (queue,), stopping=STOP.is_set), conf.get("SLICE"))
    except Exception as error:
        _say("serving", queue, error)


def deliver_email(notification_id: int | None = None) -> None:
    """Serve the email queue; or send the one waiting row, due or not, when given its id."""
    deliver("email", notification_id)


def deliver_whatsapp(notification_id: int | None = None) -> None:
    """Serve the WhatsApp queue; or send the one waiting row, due or not, when given its id."""
    deliver("whatsapp", notification_id)


def deliver_sms(notification_id: int | None = None) -> None:
    """Serve the SMS queue; or send the one waiting row, due or not, when given its id."""
    deliver("sms", notification_id)


def deliver_push(notification_id: int | None = None) -> None:
    """Serve the push queue; or send the one waiting row, due or not, when given its id."""
    deliver("push", notification_id)


def deliver(channel: str, notification_id: int | None) -> None:
    """Serve the queue of `channel`, or send its one row, unless it is held."""
    try:
        queue = conf.channel(channel).queue
        service = Service((queue,), stopping=STOP.is_set)
        if notification_id is None:
            serve_safely(service, conf.get("SLICE"))
            return
        close_old_connections()  # a restarted server's: the next query would fail on it for ever
        if reason := _why_not(notification_id, channel):
            logger.info("notification %s: %s", notification_id, reason)
        elif row := outbox.claim_one(Notification, notification_id):
            service.run_one(row)
    except Exception as error:
        _say("delivering on", channel, error)


def _say(what: str, where: str, error: Exception) -> None:
    """Log an error that is nobody's fault but ours, without what it quotes."""
    logger.error(
        "%s %s ended early; the clock will ring again: %s", what, where, safe_traceback(error)
    )


def _why_not(notification_id: int, channel: str) -> str | None:
    """Why this row must not be sent now on `channel`; looked at before a claim would move it."""
    waiting = Notification.objects.filter(pk=notification_id, channel=channel, state=State.PENDING)
    row = waiting.only("queue", "kind").first()
    if row is None:
        return f"does not wait on {channel}"
    held = holds.current()
    if row.kind in held.kinds_of(row.queue):
        return f"messages of the kind {row.kind} are held"
    return held.stops(row.queue)
