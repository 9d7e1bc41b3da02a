"""Django's own mail, made durable: EMAIL_BACKEND = "notifications.backends.QueuedEmailBackend".

Every `send_mail` of the project and of third-party apps then becomes one row for each recipient.
The messages go out through the email channel's providers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db import router, transaction

from notifications.contents import email_content
from notifications.dispatch import send_email
from notifications.models import Notification
from notifications.redaction import safe_traceback

logger = logging.getLogger("notifications.backends")


class QueuedEmailBackend(BaseEmailBackend):
    """Queues what other backends would send now."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Queue each message for each of its recipients; how many messages were queued.

        All or none of them, or with `fail_silently` those that can be. A caller who catches what
        is raised goes on in its own transaction: hence the savepoints.
        """
        if self.fail_silently:
            return sum(map(self._queue_if_possible, email_messages))
        with _savepoint():
            return sum(map(self._queue, email_messages))

    def _queue_if_possible(self, message: EmailMessage) -> int:
        try:
            with _savepoint():
                return self._queue(message)
        except Exception as error:
            logger.error("a mail could not be queued: %s", safe_traceback(error))
            return 0

    def _queue(self, message: EmailMessage) -> int:
        content, recipients = email_content(message)
        if not recipients:
            return 0
        send_email(to=recipients, **content)
        return 1


def _savepoint() -> transaction.Atomic:
    return transaction.atomic(using=router.db_for_write(Notification))
