"""What the demonstration has instead of providers: services that take messages and keep them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from django.conf import settings
from django.urls import reverse

from notifications import conf
from notifications.testing import twilio_server, whatsapp_server
from notifications.testing.smtp_server import Received, Rule, SmtpServer
from notifications.testing.twilio_server import TwilioServer
from notifications.testing.whatsapp_server import WhatsAppServer
from orders import caught_phones
from orders.caught_phones import CaughtText
from orders.whatsapp import TEMPLATES

Caught = Received | CaughtText
Tell = Callable[[Caught], None]

REFUSED = "refused@example.com"  # the mail server does not know this address
NOT_ON_WHATSAPP = ("+12025550104", "+12025550105")  # the phones of the last two customers


@contextmanager
def open_services(tell: Tell) -> Iterator[None]:
    """Services at the addresses of the settings; `tell` is called with each message they catch, in
    threads of theirs."""
    with ExitStack() as stack:
        for service in (_mail_server, _whatsapp_server, _text_server):
            stack.enter_context(service(tell))
        yield


@contextmanager
def _mail_server(tell: Tell) -> Iterator[None]:
    refuses = Rule("RCPT", "550 5.1.1 there is no such mailbox", match=REFUSED)
    with SmtpServer(
        port=settings.EMAIL_PORT,
        rules=[refuses],
        folder=Path(settings.CAUGHT_MAIL),
        on_message=tell,
    ):
        yield


@contextmanager
def _whatsapp_server(tell: Tell) -> Iterator[None]:
    """Meta's API, with phones that read what they get, but for two that it does not know."""
    options = _options("whatsapp_cloud")
    hook = reverse("notifications:webhook", args=["whatsapp_cloud"])

    def catch(message: whatsapp_server.Accepted) -> None:
        if message.to not in NOT_ON_WHATSAPP:
            _catch("whatsapp", message.to, message.text, message.buttons, message.data, tell)

    with WhatsAppServer(
        port=urlsplit(options["API_URL"]).port or 0,
        templates=TEMPLATES,
        answers=[
            whatsapp_server.Answer(status=200, accept=True, fails=131026, match=phone)
            for phone in NOT_ON_WHATSAPP
        ],
        token=options["TOKEN"],
        phone_id=options["PHONE_ID"],
        business_id=options["BUSINESS_ID"],
        app_secret=options["APP_SECRET"],
        verify_token=options["VERIFY_TOKEN"],
        callback_url=f"{settings.FRONTEND_URL}{hook}",
        read_after=1.0,
        on_message=catch,
    ):
        yield


@contextmanager
def _text_server(tell: Tell) -> Iterator[None]:
    """Twilio's API."""
    options = _options("twilio")

    def catch(message: twilio_server.Accepted) -> None:
        query = dict(parse_qsl(urlsplit(message.callback).query))
        _catch("sms", message.to, message.body, (), query.get("notification", ""), tell)

    with TwilioServer(
        port=urlsplit(options["API_URL"]).port or 0,
        account_sid=options["ACCOUNT_SID"],
        auth_token=options["AUTH_TOKEN"],
        on_message=catch,
    ):
        yield


def _options(provider: str) -> dict[str, str]:
    options: dict[str, str] = conf.get("PROVIDERS")[provider]["OPTIONS"]
    return options


def _catch(
    channel: str,
    to: str,
    text: str,
    buttons: Sequence[str],
    notification: str,
    tell: Tell,
) -> None:
    """Keep a message for the shop's page, and tell of it."""
    message = CaughtText(channel, to, text, buttons, int(notification or 0), time.time())
    caught_phones.keep(Path(settings.CAUGHT_PHONES), message)
    tell(message)
