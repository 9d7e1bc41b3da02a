"""What Anymail's services report, at the address of the provider it is about."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
from anymail.signals import inbound, tracking
from django.conf import settings
from django.test import Client, override_settings
from django.urls import include, path, reverse

from notifications import conf
from notifications.models import Notification, Receipt, State, Suppression
from notifications.testing.sendgrid_events import SendGridEvents, make_event
from tests.scripted import SETTINGS, scripted
from tests.test_receipts import make_sent, state_of

pytestmark = pytest.mark.django_db(transaction=True)

ANN = "ann@example.com"
LOGIN = "postman:a-long-password"

# Anymail's services whose webhooks have no signature; boto3, for Amazon's, is not installed here.
UNSIGNED = ["brevo", "mailjet", "postmark", "sparkpost"]
EITHER = ["mailtrap", "resend", "sendgrid"]  # a signature, if there is a key, or else a password
SIGNED = ["mailersend", "mailgun", "mandrill", "postal", "unisender_go"]

# What the backends ask for, and no webhook does.
KEYS = {"api_key": "k", "secret_key": "k", "api_token": "k", "server_token": "k"}


# A project that mounts Anymail's own addresses, too.
urlpatterns = [
    path("anymail/", include("anymail.urls")),
    path("notifications/", include("notifications.urls")),
]
MOUNTED: dict[str, Any] = {"ROOT_URLCONF": "tests.test_anymail_callbacks"}


@contextmanager
def through(**services: dict[str, Any]) -> Iterator[None]:
    """Providers of one Anymail service each, by name: their options, the backend's name first."""
    entries = {
        name: {
            "BACKEND": "notifications.providers.django_email.DjangoEmail",
            "OPTIONS": {"BACKEND": f"anymail.backends.{options.pop('of', name)}.EmailBackend"}
            | options,
        }
        for name, options in services.items()
    }
    providers = {**SETTINGS["PROVIDERS"], **entries}
    with scripted(PROVIDERS=["first", *services], _PROVIDERS=providers):
        yield


def post(where: str, body: bytes | dict[str, Any], login: str = "", **headers: str) -> Any:
    """Bring `body` to the address of a provider, or to one that begins with a slash."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if login:
        headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = headers.pop("Content-Type", "application/json")
    address = where if where.startswith("/") else url(where)
    return Client(enforce_csrf_checks=True).post(address, raw, kind, headers=headers)


def url(provider: str) -> str:
    return reverse("notifications:webhook", args=[provider])


def sent_by(provider: str) -> Notification:
    [row] = make_sent(1)
    row.attempt_set.update(provider=provider)
    return row


def delivered(row: Notification) -> dict[str, Any]:
    """Postmark's "Delivery" ("Delivery webhook" in its documentation)."""
    return {
        "RecordType": "Delivery", "MessageID": f"m{row.pk}", "Recipient": ANN, "Tag": "",
        "DeliveredAt": "2026-03-01T12:00:00Z", "Details": "250 OK",
        "Metadata": {"notification_id": str(row.pk)},
    }  # fmt: skip


# -- who is believed ----------------------------------------------------------------------------


def test_with_the_password_of_its_address_a_service_is_believed() -> None:
    with through(postmark={"webhook_secret": LOGIN}):
        row = sent_by("postmark")
        assert post("postmark", delivered(row), "postman:a-guess").status_code == 403
        unnamed = post("postmark", delivered(row))
        assert (unnamed.status_code, unnamed["WWW-Authenticate"]) == (
            401, 'Basic realm="callbacks"',
        )  # fmt: skip
        assert not Receipt.objects.exists()
        assert post("postmark", delivered(row), LOGIN).status_code == 200
        assert state_of(row) == State.DELIVERED


def test_the_settings_of_anymail_count_where_the_options_say_nothing() -> None:
    with through(postmark={}), override_settings(ANYMAIL={"WEBHOOK_SECRET": [LOGIN, "a:b"]}):
        row = sent_by("postmark")
        assert post("postmark", delivered(row), "c:d").status_code == 403
        assert post("postmark", delivered(row), "a:b").status_code == 200
        assert state_of(row) == State.DELIVERED


@pytest.mark.parametrize("service", [*UNSIGNED, *EITHER, *SIGNED])
def test_without_a_secret_nobody_is_believed(service: str) -> None:
    options = {} if service in ("mailgun", "unisender_go") else KEYS  # their key signs as well
    with through(**{service: dict(options)}):
        assert post(service, {}).status_code == 503
        assert post(service, {}, LOGIN).status_code == 503
    assert not Receipt.objects.exists()


EMPTY = ("signing_secret", "webhook_signing_key", "webhook_key", "api_key")


@pytest.mark.parametrize("service", [*EITHER, *SIGNED])
def test_a_secret_that_is_empty_is_none(service: str) -> None:
    with through(**{service: {**dict.fromkeys(EMPTY, ""), "webhook_secret": ""}}):
        assert post(service, {}).status_code == 503


@pytest.mark.parametrize("service", [*UNSIGNED, *EITHER, *SIGNED])
def test_a_stranger_is_refused(service: str) -> None:
    secrets = {**KEYS, **dict.fromkeys(EMPTY, "a-key"), "webhook_secret": LOGIN}
    if service == "resend":
        del secrets["signing_secret"]  # its library is not installed here
    with through(**{service: secrets}):
        assert post(service, {}).status_code == 401
        assert post(service, {}, "postman:a-guess").status_code == 403
        assert post(service, b"\xff", "postman:a-guess").status_code == 403
    assert not Receipt.objects.exists()


def test_a_library_that_is_missing_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with through(resend={"api_key": "k", "signing_secret": "whsec_x"}):
        assert post("resend", {}).status_code == 503
    assert "svix" in caplog.text


def test_what_a_stranger_says_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    mandrill = {"api_key": "k", "webhook_key": "a-key"}
    with through(postmark={"webhook_secret": LOGIN}, mandrill=mandrill):
        assert post("postmark", {"to": ANN}, "eve:a-guess").status_code == 403
        assert post("mandrill", {"to": ANN}, "eve:a-guess", X_Mandrill_Signature="x").status_code
        assert post("postmark", {"RecordType": ANN}, LOGIN).status_code == 200
        assert post("postmark", [ANN], LOGIN).status_code == 400  # type: ignore[arg-type]
    assert "refused" in caplog.text
    assert [each for each in (ANN, "a-guess", "a-long-password") if each in caplog.text] == []


# -- what is signed -----------------------------------------------------------------------------


def test_mailguns_signature_is_checked() -> None:
    stamp, token, key = str(int(time.time())), "t" * 50, "signing-key"
    with through(mailgun={"api_key": "k", "webhook_signing_key": key}):
        row = sent_by("mailgun")
        proof = hmac.new(key.encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()
        body = {
            "signature": {"timestamp": stamp, "token": token, "signature": proof},
            "event-data": {
                "event": "delivered", "id": "e1", "timestamp": time.time(), "recipient": ANN,
                "message": {"headers": {"message-id": f"m{row.pk}"}},
                "user-variables": {"notification_id": str(row.pk)},
            },
        }  # fmt: skip
        row.attempt_set.update(message_id=f"<m{row.pk}>")
        forged = {**body, "signature": {**body["signature"], "signature": "0" * 64}}
        assert post("mailgun", forged).status_code == 403
        assert post("mailgun", body).status_code == 200
        assert state_of(row) == State.DELIVERED


def mandrill(events: list[dict[str, Any]], *, key: str, login: str = "") -> dict[str, Any]:
    """A form and its signature over the address as Mandrill knows it ("Authenticating webhook
    requests" in its documentation)."""
    fields = {"mandrill_events": json.dumps(events)}
    address = f"http://{login}{'@' if login else ''}testserver{url('mandrill')}"
    told = address + "".join(name + fields[name] for name in sorted(fields))
    proof = b64encode(hmac.new(key.encode(), told.encode(), hashlib.sha1).digest()).decode()
    return {
        "body": urlencode(fields).encode(), "login": login, "X_Mandrill_Signature": proof,
        "Content_Type": "application/x-www-form-urlencoded",
    }  # fmt: skip


def test_mandrills_signature_of_the_address_is_checked_and_what_came_in_is_left_aside() -> None:
    with through(mandrill={"api_key": "k", "webhook_key": "the-key"}):
        row = sent_by("mandrill")
        opened = {
            "event": "open", "ts": 1772366400, "_id": f"m{row.pk}",
            "msg": {"email": ANN, "_id": f"m{row.pk}", "metadata": {}},
        }  # fmt: skip
        raw = "From: eve@example.com\r\nTo: shop@example.com\r\n\r\nHello\r\n"
        received = {"event": "inbound", "ts": 1772366400, "msg": {"raw_msg": raw, "email": "x"}}
        heard: list[Any] = []
        inbound.connect(lambda **told: heard.append(told), weak=False, dispatch_uid="heard")
        try:
            for login in ("", "any:body"):
                for events in ([received], [opened]):
                    told = mandrill(events, key="the-key", login=login)
                    assert post("mandrill", **told).status_code == 200
        finally:
            inbound.disconnect(dispatch_uid="heard")
        assert state_of(row) == State.READ
        assert post("mandrill", **mandrill([opened], key="another")).status_code == 403
        mixed = mandrill([opened, received], key="the-key")  # which Mandrill never does
        assert post("mandrill", **mixed).status_code == 400
    assert heard == []  # at an address for what becomes of mails
    assert Receipt.objects.count() == 1


# -- what is told -------------------------------------------------------------------------------


def test_two_accounts_at_one_service_have_an_address_and_a_secret_each() -> None:
    shop, club = {"of": "postmark", "webhook_secret": "s:1"}, {"of": "postmark"}
    with through(shop=shop, club={**club, "webhook_secret": "c:2"}):
        row = sent_by("club")
        assert post("shop", delivered(row), "c:2").status_code == 403
        assert post("club", delivered(row), "c:2").status_code == 200
        assert state_of(row) == State.DELIVERED
    assert Receipt.objects.get().provider == "club"


def test_projects_that_listen_to_anymail_hear_nothing_twice() -> None:
    heard: list[Any] = []
    tracking.connect(lambda **told: heard.append(told), weak=False, dispatch_uid="heard")
    try:
        with through(postmark={"webhook_secret": LOGIN}):
            assert post("postmark", delivered(sent_by("postmark")), LOGIN).status_code == 200
    finally:
        tracking.disconnect(dispatch_uid="heard")
    assert heard == []
    assert Receipt.objects.count() == 1


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b"{}"])
def test_what_is_proven_and_not_understood_is_bad(body: bytes) -> None:
    with through(mailjet={"webhook_secret": LOGIN}):
        assert post("mailjet", body, LOGIN).status_code == (200 if body == b"[]" else 400)


def test_what_belongs_elsewhere_is_bad() -> None:
    with through(brevo={"webhook_secret": LOGIN}):
        received = {"items": []}  # what Brevo's inbound webhook tells
        assert post("brevo", received, LOGIN).status_code == 400


def test_more_than_the_hosts_forms_may_hold_is_taken() -> None:
    with (
        through(postmark={"webhook_secret": LOGIN}),
        override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=100),
    ):
        assert post("postmark", delivered(sent_by("postmark")), LOGIN).status_code == 200


def test_who_looks_whether_anybody_is_there_is_answered() -> None:
    smtp = {"BACKEND": "django.core.mail.backends.smtp.EmailBackend"}
    own = {"BACKEND": "notifications.providers.django_email.DjangoEmail", "OPTIONS": smtp}
    with through(mandrill={"api_key": "k"}):
        assert Client().head(url("mandrill")).status_code == 200
        assert Client().get(url("mandrill")).status_code == 200
    with scripted(PROVIDERS=["own"], _PROVIDERS={"own": own}):
        assert Client().head(url("own")).status_code == 404
    with through(scaleway={}):  # Anymail sends through it, and hears nothing
        assert post("scaleway", {}).status_code == 404


def test_nobody_has_to_log_in_to_the_site() -> None:
    walled = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    with through(postmark={"webhook_secret": LOGIN}), override_settings(MIDDLEWARE=walled):
        assert post("postmark", delivered(sent_by("postmark")), LOGIN).status_code == 200


# -- under Anymail's own addresses --------------------------------------------------------------

POSTMARK, SENDGRID = "/anymail/postmark/tracking/", "/anymail/sendgrid/tracking/"


def test_what_anymail_lets_in_unchecked_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    with through(postmark={}), override_settings(**MOUNTED, ANYMAIL={}):
        row = sent_by("postmark")
        assert post(POSTMARK, delivered(row)).status_code == 200
        assert state_of(row) == State.SENT
    assert not Receipt.objects.exists()
    assert "an event of Postmark, which anybody may have sent, is not believed" in caplog.text


def test_what_anymail_has_checked_is_taken_in() -> None:
    with through(postmark={}), override_settings(**MOUNTED, ANYMAIL={"WEBHOOK_SECRET": LOGIN}):
        row = sent_by("postmark")
        assert post(POSTMARK, delivered(row), "eve:a-guess").status_code == 400
        assert post(POSTMARK, delivered(row), LOGIN).status_code == 200
        assert state_of(row) == State.DELIVERED


@pytest.mark.parametrize("login", ["", LOGIN])
def test_no_address_leads_past_a_providers_own_signature(login: str) -> None:
    key = SendGridEvents("http://127.0.0.1:1/").verification_key
    options = {"api_key": "SG.key", "webhook_key": key}
    entry = {"BACKEND": "notifications.providers.sendgrid.SendGrid", "OPTIONS": options}
    providers = {**SETTINGS["PROVIDERS"], "sendgrid": entry}
    with (
        scripted(PROVIDERS=["first", "sendgrid"], _PROVIDERS=providers),
        override_settings(**MOUNTED, ANYMAIL={"WEBHOOK_SECRET": login} if login else {}),
    ):
        row = sent_by("sendgrid")
        mail = {
            "personalizations": [
                {"to": [{"email": ANN}], "custom_args": {"anymail_id": f"m{row.pk}"}}
            ],
        }
        forged = json.dumps([make_event(mail, "bounce"), make_event(mail, "spamreport")]).encode()
        assert post("sendgrid", forged).status_code == 403
        assert post(SENDGRID, forged, login).status_code == 200
        assert state_of(row) == State.SENT
    assert not Receipt.objects.exists()
    assert not Suppression.objects.exists()


@pytest.mark.parametrize(
    ("service", "anymail", "mounted", "found"),
    [
        ("postmark", {}, True, ["/anymail/postmark/tracking/"]),
        ("mandrill", {}, True, []),  # without its key it answers nobody
        ("mailgun", {"MAILGUN_WEBHOOK_SIGNING_KEY": ""}, True, ["/anymail/mailgun/tracking/"]),
        ("mailgun", {"MAILGUN_WEBHOOK_SIGNING_KEY": "a-key"}, True, []),
        ("postmark", {"WEBHOOK_SECRET": LOGIN}, True, []),
        ("postmark", {}, False, []),
        ("scaleway", {}, True, []),
    ],
)
def test_the_checks_tell_of_addresses_at_which_anybody_may_report(
    service: str, anymail: dict[str, str], mounted: bool, found: list[str]
) -> None:
    changes = {**(MOUNTED if mounted else {}), "ANYMAIL": anymail}
    with through(**{service: {}}), override_settings(**changes):
        messages = conf.provider(service).check()
    assert [message.id for message in messages] == ["notifications.E053"] * len(found)
    for message, address in zip(messages, found, strict=True):
        assert address in message.msg
        assert f"webhooks/{service}/" in str(message.hint)
