"""Django's own mail, made durable: EMAIL_BACKEND = "notifications.backends.QueuedEmailBackend".

Every `send_mail` of the project and of third-party apps then becomes one row for each recipient.
The messages go out through the email channel's providers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from email.mime.base import MIMEBase
from typing import Any

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailAlternative

from notifications import outbox
from notifications.dispatch import send_email
from notifications.message import Attachment
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
        recipients = message.recipients()
        if not recipients:
            return 0
        send_email(
            to=recipients,
            subject=str(message.subject),
            text=str(message.body) if message.content_subtype == "plain" else "",
            html=_html(message),
            sender=message.from_email or "",
            reply_to=[str(each) for each in message.reply_to],
            headers={name: str(value) for name, value in message.extra_headers.items()},
            attachments=[_attachment(each) for each in message.attachments],
            to_header=", ".join(str(each) for each in message.to),
            cc_header=", ".join(str(each) for each in message.cc),
        )
        return 1


def _html(message: EmailMessage) -> str:
    if message.content_subtype == "html":
        return str(message.body)
    alternatives: list[EmailAlternative] = getattr(message, "alternatives", [])
    return next((str(each[0]) for each in alternatives if each[1] == "text/html"), "")


def _attachment(attached: Any) -> Attachment:
    if isinstance(attached, MIMEBase):
        payload = attached.get_payload(decode=True)
        content = payload if isinstance(payload, bytes) else attached.as_bytes()
        return Attachment(attached.get_filename() or "", content, attached.get_content_type())
    name, content, mimetype = attached
    raw = content if isinstance(content, bytes) else str(content).encode()
    return Attachment(name or "", raw, mimetype or "application/octet-stream")
