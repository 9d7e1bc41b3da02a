"""WhatsApp through Meta's Cloud API.

    "whatsapp_cloud": {
        "BACKEND": "notifications.providers.whatsapp_cloud.WhatsAppCloud",
        "OPTIONS": {"TOKEN": …, "PHONE_ID": …, "BUSINESS_ID": …,
                    "APP_SECRET": …, "VERIFY_TOKEN": …},
    }

It speaks HTTP through `requests`, which Anymail needs anyway; see `http_session`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import requests
from django.core.checks import CheckMessage

from notifications.errors import BadCallback, Forged, NotConfigured
from notifications.message import Fate, Media, Outcome, Parameter, Report, WhatsApp
from notifications.providers.base import Callback, Provider
from notifications.providers.http_session import HttpSession, open_client, read_json
from notifications.providers.http_wire import Wire
from notifications.providers.options import check_options
from notifications.providers.whatsapp_replies import (
    MISFITS,
    OPTED_OUT,
    judge_answer,
    judge_report,
    read_error,
    read_words,
)
from notifications.redaction import blot

API_URL = "https://graph.facebook.com/v24.0"  # without an option of its own
OPTION_NAMES = frozenset(
    ("TOKEN", "PHONE_ID", "BUSINESS_ID", "APP_SECRET", "VERIFY_TOKEN", "API_URL")
)
PAGE = 100  # templates asked for at once

_FATES = {
    "sent": Fate.SENT,
    "delivered": Fate.DELIVERED,
    "read": Fate.READ,
    "played": Fate.READ,
    "failed": Fate.FAILED,
}


class WhatsAppCloud(Provider[WhatsApp]):
    """One phone number of a WhatsApp business account.

    OPTIONS: TOKEN (of a system user), PHONE_ID (of the sending number). Optional: BUSINESS_ID (of
    the account, to synchronise its templates), APP_SECRET and VERIFY_TOKEN (for its callbacks),
    API_URL (with the version, without a slash at its end).
    """

    channels = ("whatsapp",)

    @property
    def api_url(self) -> str:
        """Where the API is, with its version."""
        return str(self.options.get("API_URL") or API_URL).rstrip("/")

    def connect(self) -> WhatsAppCloudSession:
        """A session that connects with its first message."""
        return WhatsAppCloudSession(self)

    def open(self) -> tuple[requests.Session, Wire]:
        """A client that sends the token along, and its wire."""
        client, wire = open_client()
        client.headers["Authorization"] = f"Bearer {self.options.get('TOKEN', '')}"
        return client, wire

    def clean(self, text: str, message: WhatsApp | None = None) -> str:
        """`text` without the token, and without what `message` says and to whom."""
        private = [str(self.options.get(name) or "") for name in ("TOKEN", "APP_SECRET")]
        if message is not None:
            private += [message.to, message.to.lstrip("+"), *message.values]
        return blot(text, private)

    def read_templates(self) -> Iterator[Mapping[str, Any]]:
        """Every template of the account, as the API tells it, page by page; none without a
        BUSINESS_ID.

        Raises requests.RequestException, and ValueError for what is no answer of the API.
        """
        if not self.options.get("BUSINESS_ID"):
            return
        client, _wire = self.open()
        after: dict[str, str] = {}
        with client:
            while True:
                answer = client.get(
                    f"{self.api_url}/{self.options.get('BUSINESS_ID')}/message_templates",
                    params={
                        "fields": "name,language,status,category,parameter_format,components",
                        "limit": str(PAGE),
                        **after,
                    },
                    timeout=self.timeout,
                    allow_redirects=False,
                )
                body = read_json(answer)
                error = read_error(body)
                if error is not None or not isinstance(body, dict) or "data" not in body:
                    said = self.clean(error.text if error else answer.reason or "")
                    raise ValueError(f"{answer.status_code} {said}")
                yield from body["data"]
                paging = body.get("paging") or {}
                # `next` is a whole address; only its cursor is used, on the host we know.
                if not paging.get("next"):
                    return
                after = {"after": str(paging["cursors"]["after"])}

    # -- callbacks --------------------------------------------------------------------------

    def receive(self, callback: Callback) -> Sequence[Report] | str:
        """What became of messages; or the challenge, when Meta asks whose address this is.

        ("Create a webhook endpoint" in Meta's documentation.) Messages from people, and the
        statuses of other numbers of the account, are left aside.
        """
        if callback.method == "GET":
            return self._shake_hands(callback.query)
        self._check_signature(callback)
        try:
            body = json.loads(callback.body)
        except ValueError:
            raise BadCallback("It is no JSON.") from None
        if not isinstance(body, dict) or body.get("object") != "whatsapp_business_account":
            raise BadCallback("It is not about a WhatsApp business account.")
        try:
            return [
                report
                for entry in body["entry"]
                for change in entry["changes"]
                if change["field"] == "messages" and self._is_ours(change["value"])
                for status in change["value"].get("statuses", ())
                for report in self._reports(status)
            ]
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise BadCallback(f"It is not built as documented: {type(error).__name__}.") from None

    def _shake_hands(self, query: Mapping[str, str]) -> str:
        token = str(self.options.get("VERIFY_TOKEN") or "")
        if not token:
            raise NotConfigured(f"The provider {self.name!r} has no VERIFY_TOKEN.")
        given = query.get("hub.verify_token", "")
        right = hmac.compare_digest(given.encode(), token.encode())
        if not right or query.get("hub.mode") != "subscribe":
            raise Forged("Its verify token is not ours.")
        return query.get("hub.challenge", "")

    def _check_signature(self, callback: Callback) -> None:
        secret = str(self.options.get("APP_SECRET") or "")
        if not secret:
            raise NotConfigured(f"The provider {self.name!r} has no APP_SECRET.")
        digest = hmac.new(secret.encode(), callback.body, hashlib.sha256).hexdigest()
        given = callback.headers.get("x-hub-signature-256", "")
        if not hmac.compare_digest(given.encode(), f"sha256={digest}".encode()):
            raise Forged("Its signature is not ours.")

    def _is_ours(self, value: Mapping[str, Any]) -> bool:
        number = (value.get("metadata") or {}).get("phone_number_id")
        return str(number) == str(self.options.get("PHONE_ID"))

    def _reports(self, status: Mapping[str, Any]) -> Iterator[Report]:
        fate = _FATES.get(status["status"])
        if fate is None:  # "deleted" and "warning" say nothing about the way of a message
            return
        given = str(status.get("biz_opaque_callback_data") or "")
        recipient = str(status.get("recipient_id") or "")
        report = partial(
            Report,
            message_id=str(status["id"]),
            at=datetime.fromtimestamp(int(status["timestamp"]), UTC),
            notification_id=int(given) if given.isascii() and given.isdigit() else None,
            to=f"+{recipient}" if recipient.isdigit() else "",
        )
        key = f"{status['id']}:{fate}"
        if fate is not Fate.FAILED:
            yield report(fate=fate, key=key)
            return
        error: Mapping[str, Any] = next(iter(status.get("errors") or ()), {})
        code = error.get("code")
        text = blot(self.clean(read_words(error)), [recipient])
        outcome = judge_report(code, text)
        failed = partial(report, code=outcome.code, text=text)
        yield failed(fate=fate, key=key, outcome=outcome)
        if code == OPTED_OUT:
            yield failed(fate=Fate.OPTED_OUT, key=f"{status['id']}:{Fate.OPTED_OUT}")

    def check(self) -> list[CheckMessage]:
        """What is wrong with its options."""
        return check_options(
            self,
            known=OPTION_NAMES,
            needed=("TOKEN", "PHONE_ID"),
            where="Both are on the page API Setup of your app at developers.facebook.com.",
            wanted={
                "BUSINESS_ID": "its templates are not compared with the code",
                "APP_SECRET": "nobody learns what became of a message",
            },
            api_url=self.api_url,
        )


class WhatsAppCloudSession(HttpSession[WhatsApp]):
    """One connection, kept open."""

    def __init__(self, provider: WhatsAppCloud) -> None:
        super().__init__(*provider.open())
        self._provider = provider
        self._url = f"{provider.api_url}/{provider.options.get('PHONE_ID')}/messages"

    def ask(self, message: WhatsApp) -> requests.Response:
        """Post the message."""
        return self.client.post(
            self._url,
            json=build_payload(message),
            # The whole call is watched; a single silent read ends before.
            timeout=self._provider.timeout * 0.9,
            allow_redirects=False,
        )

    def read(self, answer: requests.Response, message: WhatsApp) -> Outcome:
        """What the API says; where what was sent does not fit the template, what differs."""
        body = read_json(answer)
        error = read_error(body)
        text = self.clean(error.text if error else answer.reason or "", message)
        if error is not None and error.code in MISFITS and message.difference:
            text = f"{message.template} ({message.language}): {message.difference}. {text}"
        return judge_answer(
            answer.status_code, answer.headers, body, text, template=message.template
        )

    def clean(self, text: str, message: WhatsApp) -> str:
        """`text` without the token, and without what `message` says and to whom."""
        return self._provider.clean(text, message)


def build_payload(message: WhatsApp) -> dict[str, Any]:
    """The request of a template message ("Send message templates" in Meta's documentation)."""
    components: list[dict[str, Any]] = []
    header = message.header
    if isinstance(header, Media):
        medium = {"link": header.link}
        if header.filename:
            medium["filename"] = header.filename
        components.append(
            {"type": "header", "parameters": [{"type": header.type, header.type: medium}]}
        )
    elif header is not None:
        components.append({"type": "header", "parameters": [_text(header)]})
    if message.body:
        components.append({"type": "body", "parameters": [_text(each) for each in message.body]})
    for button in message.buttons:
        name, kind = {
            "url": ("text", "text"),
            "quick_reply": ("payload", "payload"),
            "copy_code": ("coupon_code", "coupon_code"),
        }[button.type]
        components.append(
            {
                "type": "button",
                "sub_type": button.type,
                "index": str(button.index),
                "parameters": [{"type": kind, name: button.value}],
            }
        )
    template: dict[str, Any] = {"name": message.template, "language": {"code": message.language}}
    if components:
        template["components"] = components
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": message.to,
        "type": "template",
        "template": template,
        "biz_opaque_callback_data": str(message.id),
    }


def _text(parameter: Parameter) -> dict[str, str]:
    named = {"parameter_name": parameter.name} if parameter.name else {}
    return {"type": "text", **named, "text": parameter.value}
