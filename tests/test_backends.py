"""Django's own mail through the queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.mime.image import MIMEImage

import pytest
from django.contrib.auth.models import Group
from django.core import mail
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.db import connection, transaction
from django.test import override_settings

from notifications.contents import unseal
from notifications.errors import InvalidAddress, InvalidMessage
from notifications.message import Email
from notifications.models import Notification
from notifications.previews import preview, preview_kind
from orders.notifications import OrderConfirmation

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:Published or notified:RuntimeWarning"),
]

BACKEND = "notifications.backends.QueuedEmailBackend"


@pytest.fixture(autouse=True)
def backend() -> object:
    with override_settings(EMAIL_BACKEND=BACKEND):
        yield


def composed() -> list[Email]:
    return [preview(row) for row in Notification.objects.order_by("id")]


def test_send_mail_becomes_a_row_and_its_content_is_sealed() -> None:
    assert mail.send_mail("Hello", "A secret word", "shop@example.com", ["ann@example.com"]) == 1
    row = Notification.objects.get()
    assert (row.channel, row.to, row.kind) == ("email", "ann@example.com", "")
    assert b"secret" not in bytes(row.content or b"")
    assert unseal(row.content or b"")["text"] == "A secret word"
    [email] = composed()
    assert (email.subject, email.text, email.sender) == (
        "Hello",
        "A secret word",
        "shop@example.com",
    )


def test_each_recipient_gets_its_own_copy_and_sees_the_others_but_not_the_hidden() -> None:
    message = EmailMultiAlternatives(
        "Hello", "text", "shop@example.com", ["ann@example.com", "bob@example.com"],
        cc=["cy@example.com"], bcc=["dee@example.com"], reply_to=["help@example.com"],
        headers={"X-Campaign": "june"},
    )  # fmt: skip
    message.attach_alternative("<p>html</p>", "text/html")
    assert message.send() == 1
    emails = composed()
    assert [email.to for email in emails] == [
        "ann@example.com", "bob@example.com", "cy@example.com", "dee@example.com",
    ]  # fmt: skip
    for email in emails:
        assert email.to_header == "ann@example.com, bob@example.com"
        assert email.cc_header == "cy@example.com"
        assert email.html == "<p>html</p>"
        assert email.reply_to == ("help@example.com",)
        assert email.headers["X-Campaign"] == "june"


def test_attachments_of_each_sort_are_kept() -> None:
    message = EmailMessage("Hello", "text", "shop@example.com", ["ann@example.com"])
    message.attach("notes.txt", "plain", "text/plain")
    message.attach("data.bin", b"\x00\x01", None)
    picture = MIMEImage(b"GIF89a", "gif")
    picture.add_header("Content-Disposition", "attachment", filename="dot.gif")
    message.attach(picture)
    message.send()
    [email] = composed()
    kept = [(each.name, each.content, each.mimetype) for each in email.attachments]
    assert kept == [
        ("notes.txt", b"plain", "text/plain"),
        ("data.bin", b"\x00\x01", "application/octet-stream"),
        ("dot.gif", b"GIF89a", "image/gif"),
    ]


def test_an_html_message_has_no_text() -> None:
    message = EmailMessage("Hello", "<b>x</b>", "shop@example.com", ["ann@example.com"])
    message.content_subtype = "html"
    message.send()
    [email] = composed()
    assert (email.text, email.html) == ("", "<b>x</b>")


def test_rolled_back_means_never_sent() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
        mail.send_mail("Hello", "text", "shop@example.com", ["ann@example.com"])
        1 / 0  # noqa: B018
    assert not Notification.objects.exists()


def test_a_message_to_nobody_is_none() -> None:
    assert EmailMessage("Hello", "text", "shop@example.com", []).send() == 0


def test_what_cannot_be_queued_raises_unless_it_shall_fail_silently() -> None:
    bad = ("Hello", "text", "shop@example.com", ["not an address"])
    with pytest.raises(InvalidAddress):
        mail.send_mail(*bad)
    assert mail.send_mail(*bad, fail_silently=True) == 0
    with pytest.raises(InvalidMessage, match="one line"):
        mail.send_mail("Hello\nBcc: x@example.com", "text", "shop@example.com", ["ann@example.com"])
    assert not Notification.objects.exists()


@pytest.mark.parametrize("silently", [False, True])
def test_a_caller_who_forgives_a_refusal_goes_on_in_its_transaction(silently: bool) -> None:
    with transaction.atomic():
        Group.objects.create(name="before")
        with suppress(InvalidAddress):
            mail.send_mail("Hello", "text", None, ["not an address"], fail_silently=silently)
        Group.objects.create(name="after")
    assert Group.objects.count() == 2
    assert not Notification.objects.exists()


def test_a_mail_that_the_database_refuses_takes_no_other_along(
    caplog: pytest.LogCaptureFixture,
) -> None:
    messages = [
        EmailMessage("Hello", "text", None, [f"{name}@example.com"])
        for name in ("ann", "bob", "cy")
    ]
    with refusing("bob@example.com"), transaction.atomic():
        Group.objects.create(name="before")
        assert mail.get_connection(fail_silently=True).send_messages(messages) == 2
        Group.objects.create(name="after")
    assert Group.objects.count() == 2
    assert {row.to for row in Notification.objects.all()} == {"ann@example.com", "cy@example.com"}
    assert "a mail could not be queued" in caplog.text
    assert "bob@example.com" not in caplog.text


@contextmanager
def refusing(address: str) -> Iterator[None]:
    """A database whose constraints forbid messages to `address`."""
    with connection.cursor() as cursor:
        cursor.execute(REFUSAL[connection.vendor].format(address=address))
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(PARDON[connection.vendor])


REFUSAL = {
    "sqlite": """
        CREATE TRIGGER refusal BEFORE INSERT ON notifications_notification
        WHEN NEW."to" = '{address}' BEGIN SELECT RAISE(ABORT, 'refused'); END
    """,
    "postgresql": """
        ALTER TABLE notifications_notification ADD CONSTRAINT refusal CHECK ("to" <> '{address}')
    """,
}
PARDON = {
    "sqlite": "DROP TRIGGER refusal",
    "postgresql": "ALTER TABLE notifications_notification DROP CONSTRAINT refusal",
}


def test_a_preview_of_mail_that_was_sent_says_that_it_is_gone() -> None:
    mail.send_mail("Hello", "text", "shop@example.com", ["ann@example.com"])
    Notification.objects.update(content=None)
    with pytest.raises(LookupError, match="erased"):
        preview(Notification.objects.get())


def test_a_kind_is_shown_with_its_sample() -> None:
    email = preview_kind(OrderConfirmation, "email", language="de")
    assert email.subject
    assert email.html
    assert email.to == "sample@example.com"
