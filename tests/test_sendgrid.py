"""SendGrid both ways: mail out through its API, signed events back in, over sockets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction
from django.test import Client, override_settings
from django.urls import reverse

from notifications import conf, holds, jobs, receipts, suppressions
from notifications.dispatch import send_email
from notifications.models import Notification, Receipt, State, Suppression
from notifications.providers.sendgrid import OLDEST, SendGrid
from notifications.testing.sendgrid_events import SendGridEvents, make_event
from notifications.testing.sendgrid_server import SendGridServer

pytestmark = pytest.mark.django_db(transaction=True)

ANN = "ann@example.com"


@dataclass
class World:
    server: SendGridServer
    events: SendGridEvents

    def send(self) -> tuple[Notification, dict[str, Any]]:
        """A sent mail, and what the API got."""
        before = len(self.server.accepted)
        with transaction.atomic():
            [row] = send_email(to=ANN, subject="Hello", text="you", sender="shop@example.com")
        jobs.serve("email")
        row.refresh_from_db()
        assert row.state == State.SENT
        return row, self.server.wait_for(before + 1)[-1]

    def tell(self, *events: dict[str, Any], **headers: str) -> int:
        """Bring a signed batch; the status of the answer."""
        body = json.dumps(events).encode()
        return bring(body, {**self.events.sign(body), **headers})


def bring(body: bytes, headers: dict[str, str]) -> int:
    del headers["Content-Type"]
    address = reverse("notifications:webhook", args=["sendgrid"])
    return Client().post(address, body, "application/json", headers=headers).status_code


@pytest.fixture
def world() -> Iterator[World]:
    events = SendGridEvents("http://127.0.0.1:1/")
    with SendGridServer() as server, override_settings(NOTIFICATIONS=settings_of(server, events)):
        holds.forget()
        yield World(server, events)
    holds.forget()


def settings_of(server: SendGridServer, events: SendGridEvents) -> dict[str, Any]:
    options = {
        "api_key": server.api_key,
        "api_url": server.url,
        "webhook_key": events.verification_key,
    }
    backend = "notifications.providers.sendgrid.SendGrid"
    return {
        "ENVIRONMENT": "test",
        "RECIPIENTS": "*",
        "CHANNELS": {"email": {"PROVIDERS": ["sendgrid"], "RATE": ""}},
        "PROVIDERS": {"sendgrid": {"BACKEND": backend, "OPTIONS": options}},
    }


def state_of(row: Notification) -> str:
    row.refresh_from_db()
    return row.state


@pytest.mark.parametrize(
    ("event", "fields", "end", "reason"),
    [
        ("processed", {}, State.SENT, None),
        ("deferred", {}, State.SENT, None),
        ("delivered", {}, State.DELIVERED, None),
        ("open", {}, State.READ, None),
        ("open", {"sg_machine_open": True}, State.DELIVERED, None),
        ("click", {}, State.READ, None),
        ("bounce", {}, State.BOUNCED, "bounce"),
        ("bounce", {"type": "blocked"}, State.DEAD, None),
        ("dropped", {}, State.BOUNCED, "bounce"),
        ("dropped", {"reason": "Unsubscribed Address"}, State.SUPPRESSED, "opt_out"),
        ("dropped", {"reason": "Spam Reporting Address"}, State.SUPPRESSED, "complaint"),
        ("dropped", {"reason": "Spam Content"}, State.DEAD, None),
        ("spamreport", {}, State.COMPLAINED, "complaint"),
        ("unsubscribe", {}, State.SENT, "opt_out"),
        ("group_unsubscribe", {}, State.SENT, "opt_out"),
        ("group_resubscribe", {}, State.SENT, None),
    ],
)
def test_each_event_moves_its_mail(
    world: World, event: str, fields: dict[str, Any], end: State, reason: str | None
) -> None:
    row, mail = world.send()
    assert world.tell(make_event(mail, event, **fields)) == 200
    assert state_of(row) == end
    assert [one.reason for one in suppressions.find("email", ANN)] == ([reason] if reason else [])


def test_what_is_kept_names_nobody(world: World) -> None:
    row, mail = world.send()
    reason = f"550 5.1.1 <{ANN}>: user unknown"
    world.tell(make_event(mail, "bounce", reason=reason))
    row.refresh_from_db()
    kept = [*Receipt.objects.values().get().values(), *Suppression.objects.values().get().values()]
    assert not [value for value in [*kept, row.reason] if ANN in str(value)]
    assert row.reason == "5.1.1 550 5.1.1 <address>: user unknown"


def test_a_batch_may_hold_what_is_not_ours(world: World) -> None:
    row, mail = world.send()
    other = make_event(mail, "delivered", anymail_id="x", notification_id="y", timestamp="never")
    nameless = make_event(mail, "delivered", sg_event_id=None)
    account = {"event": "account_status_change", "sg_event_id": "a", "type": "compliance_suspend"}
    assert world.tell(other, nameless, account, make_event(mail, "open")) == 200
    assert state_of(row) == State.READ
    assert Receipt.objects.count() == 2


def test_a_replay_changes_nothing(world: World) -> None:
    row, mail = world.send()
    delivered, opened = make_event(mail, "delivered"), make_event(mail, "open")
    body = json.dumps([delivered]).encode()
    signed = world.events.sign(body)
    assert bring(body, dict(signed)) == 200
    assert world.tell(opened) == 200
    assert bring(body, dict(signed)) == 200
    assert state_of(row) == State.READ
    assert Receipt.objects.count() == 2


def test_forged_events_are_refused(world: World) -> None:
    row, mail = world.send()
    body = json.dumps([make_event(mail, "bounce")]).encode()
    signed = world.events.sign(body)
    name = "X-Twilio-Email-Event-Webhook-Signature"
    stranger = SendGridEvents("http://127.0.0.1:1/").sign(body)
    old = world.events.sign(body, at=time.time() - OLDEST - 60)
    early = world.events.sign(body, at=time.time() + OLDEST + 60)
    kind = {"Content-Type": "application/json"}
    forged: list[tuple[bytes, dict[str, str]]] = [
        (body + b" ", signed),
        (b"\xff" + body, signed),
        (body, stranger),
        (body, kind),
        (body, {**signed, name: "no base64!"}),
        (body, {**signed, "X-Twilio-Email-Event-Webhook-Timestamp": "1"}),
        (body, old),
        (body, early),
    ]
    assert [bring(text, dict(headers)) for text, headers in forged] == [403] * len(forged)
    assert state_of(row) == State.SENT
    assert not Receipt.objects.exists()


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"not json"])
def test_what_is_signed_but_no_batch_is_bad(world: World, body: bytes) -> None:
    assert bring(body, world.events.sign(body)) == 400


@pytest.mark.parametrize("key", ["", "no key"])
def test_without_a_key_nothing_is_believed(world: World, key: str) -> None:
    body = b"[]"
    conf.provider("sendgrid").webhook_key = key  # type: ignore[attr-defined]
    assert bring(body, world.events.sign(body)) == 503


def test_a_key_that_is_none_is_found_by_the_checks() -> None:
    options = {"api_key": "SG.key", "webhook_key": "no key"}
    provider = SendGrid("sendgrid", timeout=5, options=options)
    assert [message.id for message in provider.check()] == ["notifications.W053"]
    good = SendGridEvents("http://127.0.0.1:1/").verification_key
    assert SendGrid("s", timeout=5, options={**options, "webhook_key": good}).check() == []
    assert SendGrid("s", timeout=5, options={"api_key": "SG.key"}).check() == []


def test_the_test_server_reports_over_http(live_server: Any) -> None:
    address = live_server.url + reverse("notifications:webhook", args=["sendgrid"])
    with (
        SendGridEvents(address, then=("processed", "delivered", "open")) as events,
        SendGridServer(events=events) as server,
        override_settings(NOTIFICATIONS=settings_of(server, events)),
    ):
        holds.forget()
        world = World(server, events)
        row, mail = world.send()
        until = time.monotonic() + 10
        while state_of(row) != State.READ:
            assert time.monotonic() < until, (row.state, events.answers)
            receipts.sweep()  # what came before the settlement
            time.sleep(0.02)
        assert events.post([make_event(mail, "spamreport")]) == 200
        assert state_of(row) == State.COMPLAINED
    holds.forget()
