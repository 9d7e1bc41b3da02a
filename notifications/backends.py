"""Django's own mail, made durable: EMAIL_BACKEND = "notifications.backends.QueuedEmailBackend".

Every `send_mail` of the project and of third-party apps then becomes one row for each recipient.
The messages go out through the email channel's providers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

from notifications import outbox
from notifications.contents import email_content
from notifications.dispatch import send_email
from notifications.models import Notification

logger = logging.getLogger("notifications.backends")


class QueuedEmailBackend(BaseEmailBackend):
    """Queues what other backends would send now."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Queue each message for each of its recipients; how many messages were queued."""
        queued = 0
        with outbox.transaction_of(Notification):
            for message in email_messages:
                try:
                    queued += self._queue(message)
                except Exception:
                    if not self.fail_silently:
                        raise
                    logger.exception("a mail could not be queued")
        return queued

    def _queue(self, message: EmailMessage) -> int:
        content, recipients = email_content(message)
        if not recipients:
            return 0
        send_email(to=recipients, **content)
        return 1
