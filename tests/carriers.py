"""Channels over local servers, with real sockets between: for tests of what providers do wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.test import override_settings

from notifications import holds, jobs
from notifications.channels.whatsapp import WhatsAppTemplate
from notifications.dispatch import notify
from notifications.kinds import Kind
from notifications.models import Attempt, Hold, Notification, State
from notifications.testing.sendgrid_server import SendGridServer
from notifications.testing.smtp_server import SmtpServer
from notifications.testing.twilio_server import TwilioServer
from notifications.testing.whatsapp_server import Template, WhatsAppServer
from tests.mail_templates import kind_templates, use_templates

Server = SmtpServer | SendGridServer | WhatsAppServer | TwilioServer
HOOK = "https://shop.example.com/notifications/webhooks/twilio/"


class Often(Kind):
    """Goes out at least once."""

    name = "test_carried_often"
    channels = ("email", "whatsapp", "sms")
    whatsapp = WhatsAppTemplate("test_carried_often", languages=("en_US",), body=("word",))


class Once(Kind):
    """Goes out at most once."""

    name = "test_carried_once"
    channels = ("email", "whatsapp", "sms")
    whatsapp = WhatsAppTemplate("test_carried_once", languages=("en_US",), body=("word",))
    at_most_once = True


KINDS = (Often, Once)
TEXTS = {
    name: source
    for kind in KINDS
    for name, source in {
        **kind_templates(kind.name, subject="Hello {{ word }}", text="So {{ word }}.\n"),
        f"notifications/{kind.name}/sms.txt": "So {{ word }}.",
    }.items()
}
TEMPLATES = [Template(kind.name, body="So {{1}}.") for kind in KINDS]


def whatsapp_server(**changes: Any) -> WhatsAppServer:
    return WhatsAppServer(templates=TEMPLATES, **changes)


def twilio_server(**changes: Any) -> TwilioServer:
    """It reports to nobody."""
    server = TwilioServer(callback_url=HOOK, **changes)
    server.reporter.later = lambda *args: None  # type: ignore[method-assign]
    return server


def provider_for(server: Server | int, *, django_smtp: bool = False) -> tuple[str, dict[str, Any]]:
    """The name and the entry of PROVIDERS for a server; for a number, a port of SMTP."""
    match server:
        case SendGridServer():
            backend = "sendgrid.SendGrid"
            options: dict[str, Any] = {"api_key": server.api_key, "api_url": server.url}
            name = "sendgrid"
        case WhatsAppServer():
            backend, options, name = "whatsapp_cloud.WhatsAppCloud", server.options, "cloud"
        case TwilioServer():
            backend, options, name = "twilio.Twilio", server.options, "twilio"
        case _:
            port = server if isinstance(server, int) else server.port
            backend, options = "smtp.Smtp", {"HOST": "127.0.0.1", "PORT": port}
            name = f"smtp-{port}"
            if django_smtp:
                smtp = "django.core.mail.backends.smtp.EmailBackend"
                options = {"BACKEND": smtp, "host": "127.0.0.1", "port": port}
                backend = "django_email.DjangoEmail"
    return name, {"BACKEND": f"notifications.providers.{backend}", "OPTIONS": options}


@contextmanager
def carried_by(
    *servers: Server | int,
    django_smtp: bool = False,
    timeout: float = 1.0,
    rate: str = "",
    **changes: Any,
) -> Iterator[None]:
    """Settings whose channels have these servers as their providers, first choice first."""
    chains: dict[str, list[str]] = {}
    providers: dict[str, Any] = {}
    for server in servers:
        name, entry = provider_for(server, django_smtp=django_smtp)
        providers[name] = entry
        channel = {"cloud": "whatsapp", "twilio": "sms"}.get(name, "email")
        chains.setdefault(channel, []).append(name)
    settings = {
        "ENVIRONMENT": "test",
        "RECIPIENTS": "*",
        "FROM_EMAIL": "shop@example.com",
        "CHANNELS": {
            channel: {"PROVIDERS": names, "RATE": rate, "CONCURRENCY": 2, "TIMEOUT": timeout}
            for channel, names in chains.items()
        },
        "PROVIDERS": providers,
        "RETRY": {"RETRIES": 3, "BASE": 0.0, "JITTER": 0.0},
        **changes,
    }
    queues = {name: {"URL": "redis://127.0.0.1:1/0"} for name in ("default", *chains)}
    with use_templates(TEXTS), override_settings(NOTIFICATIONS=settings, RQ_QUEUES=queues):
        holds.forget()
        yield
    holds.forget()


def ask(
    channel: str = "email", count: int = 1, *, kind: type[Kind] = Often, word: str = "long"
) -> list[Notification]:
    """`count` rows for different people."""
    people = {
        "email": [f"person{n}@example.com" for n in range(count)],
        "whatsapp": [f"+1202555{n:04}" for n in range(100, 100 + count)],
        "sms": [f"+1202555{n:04}" for n in range(100, 100 + count)],
    }[channel]
    with transaction.atomic():
        return notify(kind, to=people, context={"word": word}, channels=[channel])


def serve(queue: str = "email", times: int = 1) -> None:
    for _ in range(times):
        jobs.serve(queue)


def let_time_pass(seconds: float) -> None:
    """Put everything that waits this much nearer."""
    Hold.objects.filter(lifted_at=None).update(until=F("until") - timedelta(seconds=seconds))
    Notification.objects.filter(state=State.PENDING).update(
        due_at=F("due_at") - timedelta(seconds=seconds)
    )
    holds.forget()


def states() -> set[str]:
    return set(Notification.objects.values_list("state", flat=True))


def outcomes(row: Notification) -> list[tuple[str, str]]:
    """The verdict and the code of each attempt."""
    return list(row.attempt_set.order_by("id").values_list("outcome", "code"))


def calls(provider: str) -> int:
    return Attempt.objects.filter(provider=provider).count()


def arrivals(servers: Sequence[Server]) -> Counter[str]:
    """How often each row arrived, over all servers."""
    total: Counter[str] = Counter()
    for server in servers:
        for name, count in server.deliveries.items():
            # Twilio is given no id, but an address to report to, which has it.
            total[name.rpartition("notification=")[2]] += count
    return total
