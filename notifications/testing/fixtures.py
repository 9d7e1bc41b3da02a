"""Fixtures for the tests of a project that uses the app. They build on pytest-django.

A server for another provider is one more fixture of five lines: start it, `use_provider`, yield.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from notifications import conf, holds
from notifications.testing.outbox import Outbox
from notifications.testing.sendgrid_server import SendGridServer
from notifications.testing.smtp_server import SmtpServer
from notifications.testing.twilio_server import TwilioServer
from notifications.testing.whatsapp_server import WhatsAppServer

Settings = Any  # pytest-django's, whose attributes are Django's settings until the test ends


@pytest.fixture
def outbox(db: None) -> Outbox:
    """What the test's code tells people."""
    return Outbox()


@pytest.fixture
def smtp_server(settings: Settings) -> Iterator[SmtpServer]:
    """A mail server on this machine, which gets the email channel's mails."""
    with SmtpServer() as server:
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.host, server.port
        settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        use_provider(settings, "email", "smtp", "notifications.providers.smtp.Smtp")
        yield server


@pytest.fixture
def sendgrid_server(settings: Settings) -> Iterator[SendGridServer]:
    """SendGrid's API on this machine, which gets the email channel's mails."""
    with SendGridServer() as server:
        use_provider(
            settings,
            "email",
            "sendgrid",
            "notifications.providers.django_email.DjangoEmail",
            BACKEND="anymail.backends.sendgrid.EmailBackend",
            api_key=server.api_key,
            api_url=server.url,
        )
        yield server


@pytest.fixture
def whatsapp_server(settings: Settings) -> Iterator[WhatsAppServer]:
    """Meta's Cloud API on this machine, which gets the WhatsApp channel's messages. Put the
    templates of your kinds into its `templates`."""
    with WhatsAppServer() as server:
        backend = "notifications.providers.whatsapp_cloud.WhatsAppCloud"
        use_provider(settings, "whatsapp", "whatsapp_cloud", backend, **server.options)
        yield server


@pytest.fixture
def twilio_server(settings: Settings) -> Iterator[TwilioServer]:
    """Twilio's API on this machine, which gets the SMS channel's messages."""
    with TwilioServer() as server:
        backend = "notifications.providers.twilio.Twilio"
        use_provider(settings, "sms", "twilio", backend, **server.options)
        yield server


def use_provider(
    settings: Settings, channel: str, name: str, backend: str, **options: object
) -> None:
    """Let `channel` send through one provider alone: to anybody, at any rate, without waits.

    `name` is what attempts are filed under; `backend` the Provider's class, `options` its own.
    """
    known = conf.get("CHANNELS")
    entry = {**known.get(channel, {}), "PROVIDERS": [name], "RATE": ""}
    settings.NOTIFICATIONS = {
        **getattr(settings, "NOTIFICATIONS", {}),
        "RECIPIENTS": "*",
        "CHANNELS": {**known, channel: entry},
        "PROVIDERS": {**conf.get("PROVIDERS"), name: {"BACKEND": backend, "OPTIONS": options}},
        "RETRY": {**conf.get("RETRY"), "BASE": 0.0},
    }
    holds.forget()
