"""Administrators are told once in a while, and never over the road that broke."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.test import override_settings

from notifications import alerts, clock, dispatch, holds, jobs
from notifications.alerts import Messenger, alert
from notifications.models import Alert, Notification, Stamp
from notifications.testing.smtp_server import Rule, SmtpServer
from tests.scripted import SETTINGS, Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)

LOCMEM = "django.core.mail.backends.locmem.EmailBackend"


class Hook(ThreadingHTTPServer):
    """A webhook that writes down what it is told, and answers what it was told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heard: list[dict[str, str]] = []
        self.answers: list[int] = []
        self.hangs = threading.Event()
        self.let_go = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append(json.loads(body))
        if self.server.hangs.is_set():
            self.server.let_go.wait(20)
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.let_go.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


@contextmanager
def told_by(**options: Any) -> Iterator[None]:
    settings = {**SETTINGS, "ALERTS": {"MAIL": "", **options}}
    with override_settings(NOTIFICATIONS=settings, ADMINS=[("Ops", "ops@example.com")]):
        holds.forget()
        yield


def raise_it(about: str = "note", key: str = "provider first 535") -> Alert:
    with transaction.atomic():
        alert("note: first is held", "535 bad password", key=key, about=about)
    return Alert.objects.get(key=key)


def test_it_is_told_by_every_road_once(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    with told_by(MAIL=LOCMEM, WEBHOOK=hook.url):
        raised = raise_it()
        Messenger().finish()
        raise_it()
        Messenger().finish()
    raised.refresh_from_db()
    assert (raised.due_at, raised.times, raised.roads) == (None, 2, "mail webhook")
    assert raised.told_at is not None
    assert [each.subject for each in mail.outbox] == ["[Django] note: first is held"]
    assert mail.outbox[0].to == ["ops@example.com"]
    assert hook.heard == [{"text": "note: first is held\n535 bad password"}]
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage() for record in errors] == ["note: first is held. 535 bad password"]


def test_after_an_hour_it_is_told_again_in_its_new_words(hook: Hook) -> None:
    with told_by(WEBHOOK=hook.url):
        raise_it()
        Messenger().finish()
        Alert.objects.update(told_at=F("told_at") - timedelta(minutes=59))
        raise_it()
        Messenger().finish()
        assert len(hook.heard) == 1
        Alert.objects.update(told_at=F("told_at") - timedelta(minutes=2))
        with transaction.atomic():
            alert("still held", "535", key="provider first 535", about="note")
        Messenger().finish()
    assert [each["text"] for each in hook.heard[1:]] == ["still held\n535"]


SMTP = "django.core.mail.backends.smtp.EmailBackend"
ANYMAIL = "anymail.backends.sendgrid.EmailBackend"


@contextmanager
def mailing(*, backend: str, provider: str = "smtp.Smtp", **options: Any) -> Iterator[None]:
    """A shop whose one channel is mail, and which tells its administrators by `backend`."""
    entry = {"BACKEND": f"notifications.providers.{provider}", "OPTIONS": options}
    settings = {
        **SETTINGS,
        "CHANNELS": {"email": {"PROVIDERS": ["carrier"], "RATE": ""}},
        "PROVIDERS": {"carrier": entry},
        "ALERTS": {"MAIL": backend},
    }
    queues = {name: {"URL": "redis://127.0.0.1:1/0"} for name in ("default", "email")}
    admins = [("Ops", "ops@example.com")]
    with override_settings(NOTIFICATIONS=settings, ADMINS=admins, RQ_QUEUES=queues):
        holds.forget()
        yield


@pytest.mark.parametrize(
    ("backend", "provider", "options", "apart"),
    [
        (SMTP, "smtp.Smtp", {}, False),
        (SMTP, "smtp.Smtp", {"HOST": "LOCALHOST", "PORT": 587}, False),
        (SMTP, "smtp.Smtp", {"HOST": "smtp.elsewhere.example"}, True),
        (SMTP, "django_email.DjangoEmail", {"BACKEND": SMTP}, False),
        (SMTP, "django_email.DjangoEmail", {"BACKEND": SMTP, "host": "smtp.elsewhere"}, True),
        (SMTP, "sendgrid.SendGrid", {"api_key": "x"}, True),
        (ANYMAIL, "sendgrid.SendGrid", {"api_key": "x"}, False),
        (ANYMAIL, "smtp.Smtp", {}, True),
        (LOCMEM, "smtp.Smtp", {}, True),
        ("notifications.backends.QueuedEmailBackend", "smtp.Smtp", {}, False),
        ("no.such.Backend", "smtp.Smtp", {}, True),
    ],
)
def test_of_trouble_with_mail_no_mail_tells_that_takes_the_same_server(
    backend: str, provider: str, options: dict[str, Any], apart: bool, settings: Any
) -> None:
    settings.EMAIL_HOST = "localhost"
    with mailing(backend=backend, provider=provider, **options):
        assert alerts.untold() == ([] if apart else ["email"])


def test_a_mail_about_mail_is_not_sent(settings: Any) -> None:
    with SmtpServer() as server:
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.host, server.port
        with mailing(backend=SMTP):
            raised = raise_it(about="email")
            Messenger().finish()
    raised.refresh_from_db()
    assert (server.messages, raised.due_at, raised.roads) == ([], None, "")


def test_of_a_locked_account_a_mail_tells_that_takes_another_server(settings: Any) -> None:
    locked = SmtpServer(rules=[Rule("CONNECT", "535 5.7.8 account locked")])
    with locked, SmtpServer() as other:
        settings.EMAIL_HOST, settings.EMAIL_PORT = "localhost", other.port
        with mailing(backend=SMTP, HOST=locked.host, PORT=locked.port):
            with transaction.atomic():
                dispatch.send_email(to="ann@example.com", subject="Hello", text="Hello")
            jobs.serve("email")
            Messenger().finish()
        [told] = other.wait_for(1)
    assert "carrier is held" in str(told.message["Subject"])
    assert locked.messages == []


def test_another_channel_tells_it_and_not_the_one_that_broke() -> None:
    channels = {"note": ["ops@example.com", "boss@example.com"]}
    with told_by(CHANNELS=channels):
        raise_it(about="note")
        raised = raise_it(about="email", key="email")
        Messenger().finish()
        Messenger().finish()
    rows = Notification.objects.order_by("id")
    assert [row.to for row in rows] == ["ops@example.com", "boss@example.com"]
    assert rows[0].kind == "administrator_alert"
    raised.refresh_from_db()
    assert raised.roads == "note"


def test_a_road_that_fails_is_tried_three_times_and_the_others_once(hook: Hook) -> None:
    hook.answers = [500, 302, 503, 200]
    with told_by(MAIL=LOCMEM, WEBHOOK=hook.url):
        raised = raise_it()
        for _ in range(5):
            Messenger().finish()
            Alert.objects.exclude(due_at=None).update(due_at=Now())
    raised.refresh_from_db()
    assert (raised.tries, raised.roads, raised.due_at) == (3, "mail", None)
    assert (len(mail.outbox), len(hook.heard)) == (1, 3)


def test_a_road_that_hangs_does_not_hold_up_the_clock(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "DEADLINE", 0.3)
    hook.hangs.set()
    with told_by(WEBHOOK=hook.url):
        raised = raise_it()
        messenger = Messenger()
        began = time.monotonic()
        messenger.step()
        messenger.step()
        assert time.monotonic() - began < 0.25
        messenger.finish()
        assert 0.25 < time.monotonic() - began < 2
    raised.refresh_from_db()
    assert (raised.tries, raised.roads) == (1, "")
    assert raised.due_at is not None


def test_one_of_many_clocks_tells_it(hook: Hook) -> None:
    with told_by(WEBHOOK=hook.url):
        raise_it()
        first, second = Messenger(), Messenger()
        first.step()
        second.step()
        first.finish()
        second.finish()
    assert len(hook.heard) == 1


def test_the_clock_tells_it(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "tick", lambda queues: [])
    with told_by(WEBHOOK=hook.url):
        raise_it()
        until = time.monotonic() + 10
        clock.run([], stopping=lambda: bool(hook.heard) or time.monotonic() > until)
    assert len(hook.heard) == 1


def test_a_copied_database_tells_nobody(hook: Hook) -> None:
    Stamp.objects.update_or_create(pk=1, defaults={"environment": "elsewhere"})
    try:
        with told_by(WEBHOOK=hook.url):
            raise_it()
            Messenger().finish()
        assert hook.heard == []
    finally:
        Stamp.objects.filter(pk=1).update(environment="test")
        holds.forget()


def test_a_mistake_in_telling_does_not_stop_the_clock(caplog: pytest.LogCaptureFixture) -> None:
    with told_by(CHANNELS=["not", "a", "dict"]):
        raise_it()
        Messenger().step()
    assert "cannot tell the administrators" in caplog.text


def test_what_is_rolled_back_is_not_told() -> None:
    with transaction.atomic():
        alert("never", "mind", key="never")
        transaction.set_rollback(True)
    assert not Alert.objects.exists()
