"""Callbacks of providers: checked, taken in, and answered so that each does what is right."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import pytest
from anymail.signals import AnymailTrackingEvent, tracking
from django.db import OperationalError
from django.test import Client
from django.urls import reverse

from notifications import conf, receipts, webhooks
from notifications.errors import BadCallback, Forged, NotConfigured
from notifications.message import Fate, Report
from notifications.models import Receipt, State, Suppression
from notifications.providers.base import Callback
from tests.scripted import SETTINGS, Scripted, scripted
from tests.test_receipts import make_sent, state_of

pytestmark = pytest.mark.django_db(transaction=True)

TOLD: list[Any] = []  # what `Talker.receive` gives or raises next
HEARD: list[Callback] = []


class Talker(Scripted):
    """A provider with callbacks."""

    def receive(self, callback: Callback) -> Sequence[Report] | str:
        HEARD.append(callback)
        told = TOLD.pop()
        if isinstance(told, Exception):
            raise told
        return told


@pytest.fixture(autouse=True)
def talker() -> Iterator[None]:
    providers = {**SETTINGS["PROVIDERS"], "first": {"BACKEND": "tests.test_webhooks.Talker"}}
    TOLD.clear()
    HEARD.clear()
    with scripted(PROVIDERS=["first", "second"], _PROVIDERS=providers):
        yield


def url(provider: str = "first") -> str:
    return reverse("notifications:webhook", args=[provider])


def post(told: Any, *, body: bytes = b"{}") -> Any:
    TOLD[:] = [told]
    client = Client(enforce_csrf_checks=True, raise_request_exception=True)
    return client.post(
        f"{url()}?a=1", body, content_type="application/json", headers={"X-Sig": "s"}
    )


def test_reports_are_taken_in_without_a_csrf_token() -> None:
    [row] = make_sent(1)
    answer = post([Report(Fate.DELIVERED, f"m{row.pk}", "k1")], body=b'{"x": "\xc3\xa9"}')
    assert (answer.status_code, answer.content) == (200, b"")
    assert state_of(row) == State.DELIVERED
    [callback] = HEARD
    assert callback.method == "POST"
    assert callback.url == "http://testserver/notifications/webhooks/first/?a=1"
    assert callback.headers["x-sig"] == "s"
    assert callback.query == {"a": "1"}
    assert callback.body == b'{"x": "\xc3\xa9"}'


def test_a_handshake_is_answered_with_its_text_as_text() -> None:
    TOLD.append("<b>1158201444</b>")
    answer = Client().get(url(), {"hub.challenge": "1158201444"})
    assert (answer.status_code, answer.content) == (200, b"<b>1158201444</b>")
    assert answer["Content-Type"] == "text/plain"
    assert answer["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("error", "status"),
    [(Forged("f"), 403), (NotConfigured("n"), 503), (BadCallback("b"), 400)],
)
def test_what_is_refused_says_why_by_its_status(error: Exception, status: int) -> None:
    assert post(error).status_code == status
    assert not Receipt.objects.exists()


def test_providers_without_callbacks_and_unknown_ones_are_not_found() -> None:
    assert Client().post(url("second")).status_code == 404
    assert Client().post(url("nobody")).status_code == 404
    assert Client().put(url()).status_code == 405


def test_database_trouble_makes_the_provider_come_again() -> None:
    with mock.patch.object(receipts, "take", side_effect=OperationalError("gone")):
        assert post([Report(Fate.DELIVERED, "m", "k")]).status_code == 503


def test_a_body_that_is_too_big_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "LARGEST", 10)
    assert post([], body=b"x" * 11).status_code == 413
    assert post([], body=b"x" * 10).status_code == 200


def test_our_own_errors_are_logged_without_the_body(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = post(KeyError("ann@example.com"), body=b"ann@example.com")
    assert answer.status_code == 500
    assert "KeyError" in caplog.text
    assert "ann@example.com" not in caplog.text


# -- Anymail's own webhooks ---------------------------------------------------------------------

NUMBERS = itertools.count()


def track(kind: str, message_id: str, **fields: Any) -> None:
    event = AnymailTrackingEvent(
        event_type=kind, event_id=f"e{next(NUMBERS)}", message_id=message_id, **fields
    )
    tracking.send(sender=None, event=event, esp_name="Resend")


@pytest.fixture
def resend() -> Iterator[None]:
    entry = {
        "BACKEND": "notifications.providers.django_email.DjangoEmail",
        "OPTIONS": {"BACKEND": "anymail.backends.resend.EmailBackend", "api_key": "re_key"},
    }
    providers = {**SETTINGS["PROVIDERS"], "resend": entry}
    with scripted(PROVIDERS=["first", "resend"], _PROVIDERS=providers):
        yield


@pytest.mark.parametrize(
    ("kind", "fields", "end"),
    [
        ("queued", {}, State.SENT),
        ("deferred", {}, State.SENT),
        ("delivered", {}, State.DELIVERED),
        ("opened", {}, State.READ),
        ("clicked", {}, State.READ),
        ("complained", {}, State.COMPLAINED),
        ("unsubscribed", {}, State.SENT),
        ("bounced", {"reject_reason": "bounced"}, State.BOUNCED),
        ("bounced", {"reject_reason": "blocked", "mta_response": "421 x"}, State.DEAD),
        ("rejected", {"reject_reason": "invalid"}, State.BOUNCED),
        ("rejected", {"reject_reason": "unsubscribed"}, State.SUPPRESSED),
        ("rejected", {"reject_reason": "spam"}, State.SUPPRESSED),
        ("failed", {"description": "template"}, State.DEAD),
        ("inbound", {}, State.SENT),
        ("unknown", {}, State.SENT),
    ],
)
def test_anymails_events_become_receipts(
    resend: None, kind: str, fields: dict[str, Any], end: State
) -> None:
    [row] = make_sent(1)
    row.attempt_set.update(provider="resend")
    track(kind, f"m{row.pk}", metadata={"notification_id": str(row.pk)}, **fields)
    assert state_of(row) == end


def test_a_refusal_for_a_former_complaint_is_no_opt_out(resend: None) -> None:
    [row] = make_sent(1)
    row.attempt_set.update(provider="resend")
    track("rejected", f"m{row.pk}", reject_reason="spam")
    assert Suppression.objects.get().reason == "complaint"


def test_an_event_without_an_id_of_its_own_is_kept_once(resend: None) -> None:
    for _ in range(2):
        event = AnymailTrackingEvent(event_type="delivered", message_id="m", metadata={})
        tracking.send(sender=None, event=event, esp_name="Resend")
    assert Receipt.objects.count() == 1


def test_a_service_that_no_provider_uses_changes_nothing(resend: None) -> None:
    event = AnymailTrackingEvent(event_type="delivered", message_id="m", event_id="e")
    tracking.send(sender=None, event=event, esp_name="Postmark")
    assert not Receipt.objects.exists()


def test_of_two_accounts_at_a_service_the_one_that_sent_the_message_is_told(resend: None) -> None:
    providers = conf.get("PROVIDERS")
    both = {**providers, "club": providers["resend"]}
    with scripted(PROVIDERS=["first", "resend", "club"], _PROVIDERS=both):
        shops, clubs = make_sent(2)
        shops.attempt_set.update(provider="resend")
        clubs.attempt_set.update(provider="club")
        for row in (shops, clubs):
            track("delivered", f"m{row.pk}")
        track("delivered", "nobody's")
        track("delivered", "")
        assert (state_of(shops), state_of(clubs)) == (State.DELIVERED, State.DELIVERED)
    told = Receipt.objects.order_by("pk").values_list("provider", "applied")
    assert list(told) == [("resend", True), ("club", True), ("resend", False), ("resend", False)]


def test_anymail_hears_of_database_trouble(resend: None) -> None:
    with (
        mock.patch.object(receipts, "take", side_effect=OperationalError("gone")),
        pytest.raises(OperationalError),
    ):
        track("delivered", "m")
