"""SendGrid: mail through Anymail's backend, its Event Webhook, its suppression lists.

    "sendgrid": {
        "BACKEND": "notifications.providers.sendgrid.SendGrid",
        "OPTIONS": {"api_key": …, "webhook_key": …},
    }

`webhook_key` is the verification key of the signed Event Webhook, as its settings page shows it.
Signature, events and their fields: "Event Webhook Reference" and "Getting Started with the Event
Webhook Security Features" on https://www.twilio.com/docs/sendgrid.
"""

from __future__ import annotations

import json
import time
from binascii import Error as Base64Error
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.core.checks import CheckMessage
from django.core.checks import Warning as Caution
from python_http_client import Client
from sendgrid import SendGridAPIClient
from sendgrid.helpers.eventwebhook import EventWebhook, EventWebhookHeader

from notifications.errors import BadCallback, Forged, NotConfigured
from notifications.message import Fate, Outcome, Report, Verdict
from notifications.providers.anymail_events import read_id
from notifications.providers.base import Callback
from notifications.providers.django_email import DjangoEmail
from notifications.providers.http_opener import make_opener
from notifications.redaction import scrub

# SendGrid brings events again for 24 hours; what is older than that, and a little, is no retry.
OLDEST = 48 * 3600.0  # seconds

API_URL = "https://api.sendgrid.com/v3/"  # without an option of its own

_FATES = {
    "processed": Fate.SENT,
    "deferred": Fate.DEFERRED,
    "delivered": Fate.DELIVERED,
    "open": Fate.READ,
    "click": Fate.READ,
    "bounce": Fate.BOUNCED,
    "dropped": Fate.FAILED,
    "spamreport": Fate.COMPLAINED,
    "unsubscribe": Fate.OPTED_OUT,
    "group_unsubscribe": Fate.OPTED_OUT,
}

# The lists of "Suppressions" in the API reference, all of one shape; `asm` ones are by group.
_LISTS = {
    "bounces": Fate.BOUNCED,
    "invalid_emails": Fate.BOUNCED,
    "spam_reports": Fate.COMPLAINED,
    "unsubscribes": Fate.OPTED_OUT,
}
PAGE = 500  # addresses of one answer, the most there may be

_DEAD_ADDRESS = ("bounced address", "invalid")  # reasons of drops that are the address's
_UNWANTED = {
    "unsubscribed address": Fate.OPTED_OUT,
    "spam reporting address": Fate.COMPLAINED,
}


class SendGrid(DjangoEmail):
    """OPTIONS: api_key, webhook_key, and what `DjangoEmail` and Anymail's backend take."""

    def __init__(self, name: str, *, timeout: float, options: Mapping[str, Any]) -> None:
        given = {"BACKEND": "anymail.backends.sendgrid.EmailBackend", **options}
        self.webhook_key = str(given.pop("webhook_key", "") or "")
        super().__init__(name, timeout=timeout, options=given)

    def receive(self, callback: Callback) -> Sequence[Report]:
        """The events of one POST."""
        self._check_signature(callback)
        try:
            events = json.loads(callback.body)
        except ValueError as error:
            raise BadCallback("the body is no JSON") from error
        if not isinstance(events, list) or not all(isinstance(each, dict) for each in events):
            raise BadCallback("the body is no array of events")
        return [report for event in events for report in _read(event)]

    def read_suppressions(self) -> Iterator[tuple[Fate, str]]:
        """The addresses on the account's lists, page by page.

        Raises python_http_client's HTTPError, OSError, and ValueError for what is no answer of the
        API.
        """
        options = self.options.get("OPTIONS", self.options)
        host = str(options.get("api_url") or API_URL).rstrip("/").removesuffix("/v3")
        account = SendGridAPIClient(str(options.get("api_key", "")), host=host).client
        for name, fate in _LISTS.items():
            client = _FixedClient(
                host, account.request_headers, version=3, url_path=["suppression", name],
                timeout=self.timeout,  # by default it waits for ever (sendgrid-python, issue 985)
            )  # fmt: skip
            offset = 0
            while True:
                answer = client.get(query_params={"limit": PAGE, "offset": offset})
                found = json.loads(answer.body)
                if not isinstance(found, list):
                    raise ValueError(f"suppression/{name} is no list")
                yield from ((fate, str(each["email"])) for each in found if each.get("email"))
                if len(found) < PAGE:
                    break
                offset += PAGE

    def check(self) -> list[CheckMessage]:
        """A warning about a verification key that is none."""
        messages = super().check()
        if self.webhook_key:
            try:
                EventWebhook(self.webhook_key)
            except ValueError:
                messages.append(
                    Caution(
                        f"The webhook_key of the provider {self.name!r} is no public key.",
                        hint="Copy the verification key from SendGrid's settings, Event Webhook.",
                        id="notifications.W053",
                    )
                )
        return messages

    def _check_signature(self, callback: Callback) -> None:
        """Raises NotConfigured and Forged."""
        if not self.webhook_key:
            raise NotConfigured("OPTIONS['webhook_key'] is not set")
        try:
            verifier = EventWebhook(self.webhook_key)
        except ValueError:
            raise NotConfigured("OPTIONS['webhook_key'] is no public key") from None
        signature = callback.headers.get(EventWebhookHeader.SIGNATURE.lower(), "")
        sent_at = callback.headers.get(EventWebhookHeader.TIMESTAMP.lower(), "")
        try:
            genuine = verifier.verify_signature(callback.body.decode(), signature, sent_at)
        except (Base64Error, ValueError):  # a signature, or a body, that is no text
            genuine = False
        if not genuine:
            raise Forged("the signature is wrong or missing")
        if not sent_at.isdecimal() or abs(time.time() - int(sent_at)) > OLDEST:
            raise Forged("the signature is too old")


class _FixedClient(Client):  # type: ignore[misc]
    """SendGrid's client for one address; its own follows redirects, and takes the key along."""

    def _make_request(self, opener: Any, request: Any, timeout: float | None = None) -> Any:
        return super()._make_request(make_opener(), request, timeout)


def _read(event: Mapping[str, Any]) -> Iterator[Report]:
    """The report in one event; none for one that is no news of a message."""
    fate = _FATES.get(str(event.get("event")))
    message_id = str(event.get("anymail_id") or "")
    key = event.get("sg_event_id")
    if fate is None or not key:
        return
    reason = str(event.get("reason") or event.get("response") or "")
    suppress = None
    if fate is Fate.READ and event.get("sg_machine_open"):
        fate = Fate.DELIVERED  # opened by a mail program that opens everything
    elif fate is Fate.BOUNCED and event.get("type") == "blocked":
        fate = Fate.FAILED  # this one mail was refused; the address takes others
    elif fate is Fate.FAILED and reason.lower() in _DEAD_ADDRESS:
        fate = Fate.BOUNCED
    elif fate is Fate.FAILED:
        suppress = _UNWANTED.get(reason.lower())
    yield Report(
        fate,
        message_id=message_id,
        key=str(key),
        at=_read_time(event.get("timestamp")),
        notification_id=read_id(event),
        to=str(event.get("email") or ""),
        code=str(event.get("status") or ""),
        text=scrub(reason),
        outcome=Outcome(Verdict.PERMANENT) if fate is Fate.FAILED else None,
        suppress=suppress,
    )


def _read_time(given: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(given, tz=UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
