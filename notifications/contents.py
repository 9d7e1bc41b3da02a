"""Contents of mail without a kind: read from Django's EmailMessage, sealed for the database."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from email.message import Message
from email.mime.base import MIMEBase
from importlib import import_module
from types import ModuleType
from typing import Any

from django.core.mail import EmailMessage

from notifications.message import Attachment
from notifications.providers import mime


def seal(content: Mapping[str, Any]) -> bytes:
    """`content`, which JSON can hold, compressed and encrypted."""
    plain = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    sealed: bytes = load().seal(zlib.compress(plain, 1))
    return sealed


def unseal(sealed: bytes | memoryview) -> dict[str, Any]:
    """What was given to `seal`. Raises InvalidMessage when no known key opens it."""
    content: dict[str, Any] = json.loads(zlib.decompress(load().unseal(bytes(sealed))))
    return content


def load() -> ModuleType:
    """The module that encrypts. It costs a process 7 MB, so those who only send kinds go without,
    and a worker that needs it has it loaded before it forks."""
    return import_module("notifications.sealing")


def write_attachment(file: Attachment) -> dict[str, str]:
    """An attachment as JSON can hold it."""
    return {
        "name": file.name,
        "content": b64encode(file.content).decode("ascii"),
        "mimetype": file.mimetype,
        "content_id": file.content_id,
    }


def read_attachment(stored: Mapping[str, str]) -> Attachment:
    """The attachment that `write_attachment` stored."""
    return Attachment(
        stored["name"],
        b64decode(stored["content"]),
        stored["mimetype"],
        stored.get("content_id", ""),
    )


def email_content(message: EmailMessage) -> tuple[dict[str, Any], list[str]]:
    """A mail of Django's as the arguments of `send_email`, and its recipients.

    Each recipient gets a copy of its own; its headers show To and Cc as they were, never Bcc.
    Alternatives beside text and HTML go along as attachments.
    """
    given = {name.lower(): str(value) for name, value in message.extra_headers.items()}
    bodies = {f"text/{message.content_subtype}": str(message.body)}
    attachments: list[Attachment] = []
    for content, mimetype in getattr(message, "alternatives", ()):
        if mimetype in ("text/plain", "text/html") and mimetype not in bodies:
            bodies[mimetype] = _text(content)
        else:
            attachments.append(Attachment("", _bytes(content), mimetype))
    attachments += [_attachment(each) for each in message.attachments]
    text, html = bodies.get("text/plain", ""), bodies.get("text/html", "")
    arguments = {
        "subject": str(message.subject),
        "text": text if text or html else "\n",  # Django sends mails without a word
        "html": html,
        "sender": given.get("from") or str(message.from_email or ""),
        "reply_to": [given["reply-to"]] if "reply-to" in given else _strings(message.reply_to),
        "headers": {
            name: str(value)
            for name, value in message.extra_headers.items()
            if name.lower() == "message-id" or name.lower() not in mime.OWN_HEADERS | {"from"}
        },
        "attachments": attachments,
        "to_header": given.get("to") or ", ".join(_strings(message.to)),
        "cc_header": given.get("cc") or ", ".join(_strings(message.cc)),
    }
    return arguments, list(dict.fromkeys(_strings(message.recipients())))


def _strings(values: Iterable[Any]) -> list[str]:
    return [str(each) for each in values if each]


def _attachment(attached: Any) -> Attachment:
    if isinstance(attached, MIMEBase):
        payload = attached.get_payload(decode=True)
        content = payload if isinstance(payload, bytes) else attached.as_bytes()
        content_id = str(attached.get("Content-ID") or "").strip("<> ")
        return Attachment(
            attached.get_filename() or "", content, attached.get_content_type(), content_id
        )
    name, content, mimetype = attached
    return Attachment(name or "", _bytes(content), mimetype or "application/octet-stream")


def _bytes(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    if isinstance(content, EmailMessage):
        return content.message().as_bytes()
    if isinstance(content, Message):
        return content.as_bytes()
    return str(content).encode()


def _text(content: Any) -> str:
    return content.decode() if isinstance(content, bytes) else str(content)
