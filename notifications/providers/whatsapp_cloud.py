"""WhatsApp through Meta's Cloud API.

    "whatsapp_cloud": {
        "BACKEND": "notifications.providers.whatsapp_cloud.WhatsAppCloud",
        "OPTIONS": {"TOKEN": …, "PHONE_ID": …, "BUSINESS_ID": …,
                    "APP_SECRET": …, "VERIFY_TOKEN": …},
    }

It speaks HTTP through `requests`, which Anymail needs anyway, on the watched sockets of
`http_wire`: those tell whether anything had gone out, and can be cut when a call's whole time is
over. Each session keeps one connection open, follows no redirect and asks no proxy: token and
message go to the configured host alone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Caution

from notifications.errors import BadCallback, Forged, NotConfigured
from notifications.message import Fate, Media, Outcome, Parameter, Report, Verdict, WhatsApp
from notifications.providers.base import Callback, Lane, Provider, Session
from notifications.providers.http_wire import Wire, judge_network
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
        client = requests.Session()
        client.trust_env = False  # no proxy, and no token from a .netrc
        client.headers["Authorization"] = f"Bearer {self.options.get('TOKEN', '')}"
        wire = Wire()
        wire.attach(client)
        return client, wire

    def clean(self, text: str, message: WhatsApp | None = None) -> str:
        """`text` without the token, and without what `message` says and to whom."""
        private = [str(self.options.get(name) or "") for name in ("TOKEN", "APP_SECRET")]
        if message is not None:
            private += [message.to, message.to.lstrip("+"), *message.values]
        return blot(text, private)

    def read_templates(self) -> Iterator[Mapping[str, Any]]:
        """Every template of the account, as the API tells it, page by page.

        Raises requests.RequestException, and ValueError for what is no answer of the API.
        """
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
                body = _parse(answer)
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
        failed = partial(report, code=outcome.code, text=text, suppress=outcome.suppress)
        yield failed(fate=fate, key=key, outcome=outcome)
        if code == OPTED_OUT:
            yield failed(fate=Fate.OPTED_OUT, key=f"{status['id']}:{Fate.OPTED_OUT}")

    # -- checks -----------------------------------------------------------------------------

    def check(self) -> list[CheckMessage]:
        """Errors for options that are unknown or missing, and for a host without TLS."""
        found: list[CheckMessage] = []
        unknown = sorted(set(self.options) - OPTION_NAMES)
        if unknown:
            found.append(
                Error(
                    f"The provider {self.name!r} has unknown options: {', '.join(unknown)}.",
                    hint=f"It knows {', '.join(sorted(OPTION_NAMES))}.",
                    id="notifications.E060",
                )
            )
        missing = [name for name in ("TOKEN", "PHONE_ID") if not self.options.get(name)]
        if missing:
            found.append(
                Error(
                    f"The provider {self.name!r} lacks {' and '.join(missing)}.",
                    hint="Both are on the page API Setup of your app at developers.facebook.com.",
                    id="notifications.E061",
                )
            )
        address = urlsplit(self.api_url)
        local = address.hostname in ("localhost", "127.0.0.1", "::1")
        if not address.hostname or not (address.scheme == "https" or local):
            found.append(
                Error(
                    f"The provider {self.name!r} would send its token without TLS.",
                    hint=f"API_URL begins with https://, like {API_URL}.",
                    id="notifications.E062",
                )
            )
        without = {
            "BUSINESS_ID": "its templates are not compared with the code",
            "APP_SECRET": "nobody learns what became of a message",
        }
        for name, consequence in without.items():
            if not self.options.get(name):
                found.append(
                    Caution(
                        f"The provider {self.name!r} has no {name}: {consequence}.",
                        hint="docs/whatsapp.md tells where to find it.",
                        id="notifications.W060",
                    )
                )
        return found


class WhatsAppCloudSession(Session[WhatsApp]):
    """One connection, kept open."""

    def __init__(self, provider: WhatsAppCloud) -> None:
        self._provider = provider
        self._client, self._wire = provider.open()
        self._url = f"{provider.api_url}/{provider.options.get('PHONE_ID')}/messages"
        self._aborted = False

    def work(self, lane: Lane[WhatsApp]) -> None:
        """Send until the lane closes."""
        while (message := lane.take()) is not None:
            lane.report(message, self._send(message, partial(lane.begin, message)))

    def send(self, message: WhatsApp) -> Outcome:
        """Send one message and tell what came of it."""
        return self._send(message, lambda: None)

    def abort(self) -> None:
        """Cut the connection under the thread that uses it."""
        self._aborted = True
        self._wire.cut()

    def close(self) -> None:
        """Close the connection."""
        with suppress(Exception):  # whatever the sockets raise: we are done with them
            self._client.close()

    def _send(self, message: WhatsApp, begin: Callable[[], None]) -> Outcome:
        self._wire.reset(begin)
        clean = partial(self._provider.clean, message=message)
        try:
            answer = self._client.post(
                self._url,
                json=build_payload(message),
                # The whole call is watched; a single silent read ends before.
                timeout=self._provider.timeout * 0.9,
                allow_redirects=False,
            )
        except Exception as error:
            outcome = judge_network(error, begun=self._wire.begun, clean=clean)
        else:
            outcome = self._read(answer, message, clean)
        if self._aborted:  # what was read may be half an answer
            return Outcome(Verdict.UNKNOWN, code="aborted", theirs=True)
        return outcome

    def _read(
        self, answer: requests.Response, message: WhatsApp, clean: Callable[[str], str]
    ) -> Outcome:
        body = _parse(answer)
        error = read_error(body)
        text = clean(error.text if error else answer.reason or "")
        if error is not None and error.code in MISFITS and message.difference:
            text = f"{message.template} ({message.language}): {message.difference}. {text}"
        return judge_answer(
            answer.status_code, answer.headers, body, text, template=message.template
        )


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


def _parse(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None
