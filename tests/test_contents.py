"""Contents that lie in the database: sealed, opened, and read from Django's own mails."""

from __future__ import annotations

import subprocess
import sys
from email.mime.image import MIMEImage
from typing import Any

import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.test import override_settings

from notifications import contents
from notifications.errors import InvalidMessage
from notifications.message import Attachment

CONTENT = {"subject": "Grüße", "text": "geheim " * 100, "headers": {"X": "1"}, "attachments": []}


def test_what_is_sealed_can_be_opened_and_not_read() -> None:
    sealed = contents.seal(CONTENT)
    assert b"geheim" not in sealed
    assert contents.unseal(sealed) == CONTENT
    assert contents.unseal(memoryview(sealed)) == CONTENT
    assert contents.seal(CONTENT) != sealed


@override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", "old"])
def test_a_former_key_still_opens() -> None:
    with override_settings(SECRET_KEY="old", SECRET_KEY_FALLBACKS=[]):
        sealed = contents.seal(CONTENT)
    assert contents.unseal(sealed) == CONTENT


def test_another_key_does_not_open() -> None:
    with override_settings(SECRET_KEY="another", SECRET_KEY_FALLBACKS=[]):
        sealed = contents.seal(CONTENT)
    with pytest.raises(InvalidMessage, match="SECRET_KEY_FALLBACKS"):
        contents.unseal(sealed)


def test_what_was_tampered_with_does_not_open() -> None:
    sealed = bytearray(contents.seal(CONTENT))
    sealed[40] ^= 1
    with pytest.raises(InvalidMessage):
        contents.unseal(bytes(sealed))


def test_attachments_keep_every_byte() -> None:
    file = Attachment("ä.bin", bytes(range(256)), "application/x-own", "logo")
    assert contents.read_attachment(contents.write_attachment(file)) == file


# -- Django's mails -------------------------------------------------------------------------


def read(message: EmailMessage) -> tuple[dict[str, Any], list[str]]:
    return contents.email_content(message)


def test_a_plain_mail_is_read() -> None:
    content, recipients = read(EmailMessage("Hi", "Hello", "a@example.com", ["b@example.com"]))
    assert recipients == ["b@example.com"]
    assert content == {
        "subject": "Hi",
        "text": "Hello",
        "html": "",
        "sender": "a@example.com",
        "reply_to": [],
        "headers": {},
        "attachments": [],
        "to_header": "b@example.com",
        "cc_header": "",
    }


def test_all_get_it_and_nobody_sees_bcc() -> None:
    message = EmailMessage(
        "Hi",
        "Hello",
        to=["Ann <a@example.com>", "b@example.com"],
        cc=["c@example.com"],
        bcc=["d@example.com", "b@example.com"],
    )
    content, recipients = read(message)
    assert recipients == ["Ann <a@example.com>", "b@example.com", "c@example.com", "d@example.com"]
    assert content["to_header"] == "Ann <a@example.com>, b@example.com"
    assert content["cc_header"] == "c@example.com"
    assert "d@example.com" not in str(content)


def test_headers_with_a_place_of_their_own_find_it() -> None:
    headers = {
        "From": "Shown <shown@example.com>",
        "To": "list@example.com",
        "Reply-To": "help@example.com",
        "Bcc": "eve@example.com",
        "Message-ID": "<1@example.com>",
        "X-Mine": "1",
    }
    message = EmailMessage("Hi", "x", "real@example.com", ["b@example.com"], headers=headers)
    content, recipients = read(message)
    assert recipients == ["b@example.com"]
    assert content["sender"] == "Shown <shown@example.com>"
    assert content["to_header"] == "list@example.com"
    assert content["reply_to"] == ["help@example.com"]
    assert content["headers"] == {"Message-ID": "<1@example.com>", "X-Mine": "1"}
    assert "eve@example.com" not in str(content)


def test_alternatives_are_kept() -> None:
    message = EmailMultiAlternatives("Hi", "plain", to=["b@example.com"])
    message.attach_alternative("<p>rich</p>", "text/html")
    message.attach_alternative("BEGIN:VCALENDAR", "text/calendar; method=REQUEST")
    content, _recipients = read(message)
    assert (content["text"], content["html"]) == ("plain", "<p>rich</p>")
    assert content["attachments"] == [
        Attachment("", b"BEGIN:VCALENDAR", "text/calendar; method=REQUEST")
    ]


def test_an_html_body_is_html() -> None:
    message = EmailMultiAlternatives("Hi", "<p>rich</p>", to=["b@example.com"])
    message.content_subtype = "html"
    message.attach_alternative("plain", "text/plain")
    content, _recipients = read(message)
    assert (content["text"], content["html"]) == ("plain", "<p>rich</p>")


def test_a_mail_without_a_word_still_goes() -> None:
    assert read(EmailMessage("Hi", "", to=["b@example.com"]))[0]["text"] == "\n"


def test_attachments_of_every_sort_are_kept() -> None:
    message = EmailMessage("Hi", "x", to=["b@example.com"])
    message.attach("a.pdf", b"%PDF", "application/pdf")
    message.attach("a.txt", "Grüße", "text/plain")
    message.attach("mail.eml", EmailMessage("Inner", "x", "c@example.com"), "message/rfc822")
    picture = MIMEImage(b"\x89PNG", "png")
    picture.add_header("Content-ID", "<logo>")
    picture.add_header("Content-Disposition", "inline", filename="logo.png")
    message.attach(picture)
    pdf, text, mail, logo = read(message)[0]["attachments"]
    assert pdf == Attachment("a.pdf", b"%PDF", "application/pdf")
    assert text == Attachment("a.txt", "Grüße".encode(), "text/plain")
    assert (mail.name, mail.mimetype) == ("mail.eml", "message/rfc822")
    assert b"Subject: Inner" in mail.content
    assert logo == Attachment("logo.png", b"\x89PNG", "image/png", "logo")


@pytest.mark.parametrize(
    ("backend", "loaded"),
    [
        ("notifications.backends.QueuedEmailBackend", True),
        ("django.core.mail.backends.smtp.EmailBackend", False),
    ],
)
def test_only_those_who_need_it_load_the_encryption(backend: str, loaded: bool) -> None:
    code = (
        "import sys, django; from django.conf import settings; settings.EMAIL_BACKEND = "
        f"{backend!r}; django.setup()\n"
        "from notifications.channels.email import EmailChannel; from notifications import worker\n"
        "EmailChannel().preload([])\n"
        f"assert ('cryptography.fernet' in sys.modules) == {loaded}, 'loaded by the shop'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
