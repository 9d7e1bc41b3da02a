"""Email: what an address looks like, and how a row becomes a mail.

A kind's mail comes from its templates, rendered with plain values only; a mail without a kind
from the row's sealed content.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from notifications import conf, contents
from notifications.channels import templates
from notifications.channels.base import Channel
from notifications.channels.contexts import in_language_of, refuse_objects
from notifications.errors import InvalidAddress, InvalidMessage
from notifications.message import Email
from notifications.providers import mime

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from notifications.kinds import Kind
    from notifications.models import Notification

QUEUED = "notifications.backends.QueuedEmailBackend"

_NAMED = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^<>"@,]*)\s*<([^<>]+)>')  # Ann <ann@example.com>


class EmailChannel(Channel):
    """Mail to one address at a time."""

    name = "email"

    def address_of(self, user: AbstractBaseUser) -> str:
        """The value of the user model's EMAIL_FIELD."""
        return str(getattr(user, user.get_email_field_name(), "") or "")

    def clean(self, address: str) -> str:
        """The bare address, its domain in lower case and as mail servers know it (IDNA).

        A name before it is dropped. What stands before the @ is the receiving server's affair
        and stays as it is (RFC 5321 §2.4). Raises InvalidAddress.
        """
        if mime.FORBIDDEN.search(address):
            raise InvalidAddress(
                "An email address must not hold line breaks or control characters."
            )
        named = _NAMED.fullmatch(address.strip())
        bare = (named[1] if named else address).strip()
        local, at, domain = bare.rpartition("@")
        try:
            validate_email(bare)
            return f"{local}{at}{mime.ascii_domain(domain)}"
        except (ValidationError, InvalidMessage):
            raise InvalidAddress(_hint(bare, local)) from None

    def compose(
        self, row: Notification, kind: type[Kind] | None, context: Mapping[str, Any]
    ) -> Email:
        """The mail of `row`. Raises InvalidMessage; template errors come through."""
        email = _from_content(row) if kind is None else _from_kind(row, kind, context)
        mime.check(email)
        return email

    def preload(self, kinds: Sequence[type[Kind]]) -> None:
        """Compile the templates of `kinds`, in each of the project's languages.

        And Django's patterns of addresses: at their first use that takes 35 ms, in each process.
        And what opens contents, where all of the project's mail has one.
        """
        self.clean("preload@example.com")
        if settings.EMAIL_BACKEND == QUEUED:
            contents.load()
        templates.preload([kind.name for kind in kinds])


def _hint(bare: str, local: str) -> str:
    if "@" not in bare:
        return "This is no email address: it has no @. Write it as name@example.com."
    if "," in bare or ";" in bare or bare.count("@") > 1:
        return "This is more than one email address: give a list, each of them on its own."
    if not local.isascii():
        return "An email address must be plain ASCII before the @; its domain may be any."
    return "This is no valid email address. Write it as name@example.com."


def _from_kind(row: Notification, kind: type[Kind], context: Mapping[str, Any]) -> Email:
    refuse_objects(context, where=kind.name)
    with in_language_of(row):
        rendered = templates.render(kind.name, context)
        sender = kind.sender(row) or _default_sender()
        return Email(
            id=row.pk,
            to=row.to,
            sender=sender,
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            message_id=message_id(row, sender),
            reply_to=tuple(kind.reply_to(row)),
            headers=kind.headers(row),
            category=kind.name,
        )


def _from_content(row: Notification) -> Email:
    if row.content is None:
        raise InvalidMessage("The content of this mail has been erased.")
    content = contents.unseal(row.content)
    sender = content.get("sender") or _default_sender()
    own_id = next(
        (value for name, value in content["headers"].items() if name.lower() == "message-id"), ""
    )
    return Email(
        id=row.pk,
        to=row.to,
        sender=sender,
        subject=content["subject"],
        text=content["text"],
        html=content["html"],
        message_id=own_id or message_id(row, sender),
        to_header=content.get("to_header", ""),
        cc_header=content.get("cc_header", ""),
        reply_to=tuple(content.get("reply_to", ())),
        headers={
            name: value
            for name, value in content["headers"].items()
            if name.lower() not in mime.OWN_HEADERS
        },
        attachments=tuple(contents.read_attachment(each) for each in content["attachments"]),
    )


def message_id(row: Notification, sender: str) -> str:
    """The Message-ID of all attempts of `row`: receivers can tell a second copy by it.

    Its host is that of the sender, as RFC 5322 §3.6.4 recommends.
    """
    host = mime.bare_address(sender, name="From").rpartition("@")[2]
    return f"<{row.pk}.{int(row.created_at.timestamp() * 1000):x}@{host}>"


def _default_sender() -> str:
    return str(conf.get("FROM_EMAIL") or settings.DEFAULT_FROM_EMAIL)
