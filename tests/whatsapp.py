"""A project with WhatsApp alone, on the local server, for tests of the whole way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.test import override_settings

from notifications import holds
from notifications.channels import whatsapp_registry
from notifications.channels.whatsapp import WhatsAppTemplate
from notifications.dispatch import notify
from notifications.kinds import Kind
from notifications.models import Notification
from notifications.testing.whatsapp_server import Template, WhatsAppServer

PHONE = "+12025550123"

TEMPLATES = [
    Template("test_order", body="Hello {{1}}, your order {{2}} costs {{3}}."),
    Template("test_order", language="de", body="Hallo {{1}}, Bestellung {{2}} kostet {{3}}."),
    Template("test_order_cash", body="Hello {{1}}, have {{2}} ready."),
    Template("test_news", body="There is news."),
    Template(
        "test_named",
        named=True,
        header="Order {{number}}",
        body="Hello {{name}}.",
        buttons=[{"type": "URL", "text": "See", "url": "https://shop.example.com/{{1}}"}],
    ),
]


class OrderKind(Kind):
    """Different words for cash and prepaid."""

    name = "test_whatsapp_order"
    channels = ("whatsapp",)
    whatsapp = (
        WhatsAppTemplate(
            "test_order_cash",
            languages=("en_US",),
            when=lambda context: context.get("cash"),
            body=("name", "total|floatformat:2"),
        ),
        WhatsAppTemplate(
            "test_order",
            languages=("en_US", "de"),
            body=("name", "number", "total|floatformat:2"),
        ),
    )

    @classmethod
    def sample(cls) -> dict[str, Any]:
        return {"name": "Ada", "number": "7K2M", "total": 12.5}


class NewsKind(Kind):
    """No parameters."""

    name = "test_whatsapp_news"
    channels = ("whatsapp",)
    whatsapp = WhatsAppTemplate("test_news", languages=("en_US",))


CONTEXT = {"name": "Ada", "number": "7K2M-Q9XA", "total": 1234.5}


@contextmanager
def running(*, base: float = 2.0, **server: Any) -> Iterator[WhatsAppServer]:
    """The server, and settings whose only channel is WhatsApp over it."""
    with (
        WhatsAppServer(**{"templates": TEMPLATES, **server}) as running,
        settings_for(running, base),
    ):
        yield running


@contextmanager
def settings_for(server: WhatsAppServer, base: float = 2.0, **options: Any) -> Iterator[None]:
    """Settings whose only channel is WhatsApp over `server`."""
    cloud = "notifications.providers.whatsapp_cloud.WhatsAppCloud"
    with override_settings(
        NOTIFICATIONS={
            "ENVIRONMENT": "test",
            "RECIPIENTS": "*",
            "CHANNELS": {"whatsapp": {"RATE": "", "TIMEOUT": 2.0}},
            "PROVIDERS": {
                "whatsapp_cloud": {"BACKEND": cloud, "OPTIONS": {**server.options, **options}}
            },
            "RETRY": {"RETRIES": 3, "BASE": base, "JITTER": 0.0},
        },
        RQ_QUEUES={name: {"URL": "redis://127.0.0.1:1/0"} for name in ("default", "whatsapp")},
    ):
        holds.forget()
        whatsapp_registry.forget()
        yield
    holds.forget()
    whatsapp_registry.forget()


def ask(to: Any = PHONE, kind: type[Kind] = OrderKind, **options: Any) -> Notification:
    """One row of `kind`."""
    given: dict[str, Any] = {"context": CONTEXT, **options}
    with transaction.atomic():
        return notify(kind, to=to, **given)[0]
