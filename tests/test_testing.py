"""What the app brings for the tests of its users: the outbox and the servers' fixtures."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction

from notifications import conf
from notifications.dispatch import notify, send_email
from notifications.kinds import Kind
from notifications.models import State
from notifications.testing.fixtures import (
    outbox,
    sendgrid_server,
    smtp_server,
    twilio_server,
    whatsapp_server,
)
from notifications.testing.outbox import Outbox
from notifications.testing.sendgrid_server import SendGridServer
from notifications.testing.smtp_server import SmtpServer
from notifications.testing.twilio_server import TwilioServer
from notifications.testing.whatsapp_server import Template, WhatsAppServer
from tests.mail_templates import use_templates
from tests.probe import notifications as probe
from tests.whatsapp import PHONE, NewsKind

__all__ = ["outbox", "sendgrid_server", "smtp_server", "twilio_server", "whatsapp_server"]

pytestmark = pytest.mark.django_db(transaction=True)


class ParcelKind(Kind):
    """By text message."""

    name = "testing_parcel"
    channels = ("sms",)


MAIL: dict[str, Any] = {"subject": "Hello", "text": "Good morning."}


def mail(to: str) -> None:
    with transaction.atomic():
        send_email(to=to, **MAIL)


def test_the_outbox_shows_what_was_asked_for_in_its_order(outbox: Outbox) -> None:
    mail("ann@example.com")
    mail("bob@example.com")
    first, second = outbox.messages
    assert (first.to, second.to) == ("ann@example.com", "bob@example.com")
    assert (first.kind, first.channel, first.user) == ("", "email", None)
    assert (first.composed.subject, first.composed.text.strip()) == ("Hello", "Good morning.")
    assert first.row.state == State.PENDING
    assert repr(first) == "<mail on email to ann@example.com>"


def test_messages_are_picked_by_kind_channel_and_recipient(
    outbox: Outbox, whatsapp_server: WhatsAppServer
) -> None:
    mail("ann@example.com")
    with transaction.atomic():
        notify(NewsKind, to=PHONE)
    assert [each.channel for each in outbox.of(NewsKind.name)] == ["whatsapp"]
    assert [each.kind for each in outbox.of(channel="email")] == [""]
    assert [each.kind for each in outbox.of(to=PHONE)] == [NewsKind.name]
    assert outbox.of(NewsKind.name, channel="email") == []


def test_what_came_before_or_was_cleared_is_not_shown(outbox: Outbox) -> None:
    mail("ann@example.com")
    outbox.clear()
    mail("bob@example.com")
    assert [each.to for each in outbox.messages] == ["bob@example.com"]
    assert Outbox().messages == []


def test_who_is_written_to_is_told(outbox: Outbox) -> None:
    ann = get_user_model().objects.create_user("ann", email="ann@example.com")
    outbox.clear()
    with transaction.atomic():
        send_email(to=ann, **MAIL)
    assert [each.user for each in outbox.messages] == [ann]


def test_tasks_run_when_it_is_looked_at(outbox: Outbox, tmp_path: Any) -> None:
    trace = tmp_path / "trace"
    with transaction.atomic():
        probe.leave.enqueue(trace=str(trace))
    assert outbox.messages == []
    assert len(trace.read_text().splitlines()) == 1
    assert outbox.run_tasks() == 0


def test_a_task_that_fails_fails_the_test(outbox: Outbox, tmp_path: Any) -> None:
    with transaction.atomic():
        probe.fail_twice.enqueue(trace=str(tmp_path / "trace"))
    with pytest.raises(AssertionError, match="not yet"):
        outbox.run_tasks()


def test_mail_goes_to_the_mail_server(outbox: Outbox, smtp_server: SmtpServer) -> None:
    mail("ann@example.com")
    (message,) = outbox.deliver()
    (received,) = smtp_server.wait_for(1)
    assert received.message["Subject"] == "Hello"
    assert message.row.state == State.SENT
    assert message.composed is None  # a mail without a kind is erased when it is sent


def test_mail_goes_to_sendgrid(outbox: Outbox, sendgrid_server: SendGridServer) -> None:
    mail("ann@example.com")
    (message,) = outbox.deliver()
    (payload,) = sendgrid_server.wait_for(1)
    assert payload["subject"] == "Hello"
    assert message.row.attempt_set.get().provider == "sendgrid"


def test_messages_go_to_whatsapp(outbox: Outbox, whatsapp_server: WhatsAppServer) -> None:
    whatsapp_server.templates.append(Template("test_news", body="There is news."))
    with transaction.atomic():
        notify(NewsKind, to=PHONE)
    (message,) = outbox.deliver()
    assert (message.row.state, message.kind) == (State.SENT, NewsKind.name)
    (received,) = whatsapp_server.wait_for(1)
    assert (received.to, received.text) == (PHONE, "There is news.")


def test_a_template_nobody_registered_is_refused(
    outbox: Outbox, whatsapp_server: WhatsAppServer
) -> None:
    with transaction.atomic():
        notify(NewsKind, to=PHONE)
    (message,) = outbox.deliver()
    assert (message.row.state, whatsapp_server.accepted) == (State.DEAD, [])
    assert message.row.attempt_set.get().code == "132001"


def test_text_messages_go_to_twilio(outbox: Outbox, twilio_server: TwilioServer) -> None:
    with use_templates({"notifications/testing_parcel/sms.txt": "Your parcel comes today."}):
        with transaction.atomic():
            notify(ParcelKind, to=PHONE)
        (message,) = outbox.deliver()
    assert message.row.state == State.SENT
    (received,) = twilio_server.wait_for(1)
    assert (received.to, received.body) == (PHONE, "Your parcel comes today.")


def test_each_server_serves_its_own_channel(
    outbox: Outbox, smtp_server: SmtpServer, whatsapp_server: WhatsAppServer
) -> None:
    providers = {name: entry.get("PROVIDERS") for name, entry in conf.get("CHANNELS").items()}
    assert (providers["email"], providers["whatsapp"]) == (["smtp"], ["whatsapp_cloud"])
    whatsapp_server.templates.append(Template("test_news", body="There is news."))
    mail("ann@example.com")
    with transaction.atomic():
        notify(NewsKind, to=PHONE)
    assert {each.row.state for each in outbox.deliver()} == {State.SENT}
    assert (len(smtp_server.wait_for(1)), len(whatsapp_server.wait_for(1))) == (1, 1)
