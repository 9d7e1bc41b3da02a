"""SMS through Twilio's Messages API.

"twilio": {
    "BACKEND": "notifications.providers.twilio.Twilio",
    "OPTIONS": {"ACCOUNT_SID": …, "AUTH_TOKEN": …, "FROM": "+12025550100",
                "CALLBACK_URL": "https://shop.example.com/notifications/webhooks/twilio/"},
}
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests
from django.core.checks import CheckMessage

from notifications.errors import BadCallback, Forged, NotConfigured
from notifications.message import Fate, Found, Outcome, Report, Sms
from notifications.providers.base import Callback, Provider
from notifications.providers.http_session import HttpSession, open_client, read_json
from notifications.providers.options import check_options
from notifications.providers.twilio_replies import judge_answer, judge_report
from notifications.redaction import blot, unquote

API_URL = "https://api.twilio.com/2010-04-01"
LARGEST = 64 * 1024  # bytes of a status callback, which has a dozen short fields ...
MOST_FIELDS = 100  # ... and room for what Twilio may add
OPTION_NAMES = frozenset(("ACCOUNT_SID", "AUTH_TOKEN", "FROM", "CALLBACK_URL", "API_URL"))
PAGE = 200  # messages of one answer; 1,000 is the most
SERVICE = "MG"  # how the id of a messaging service begins

# "Message resource", section on status values. What is missing here tells nothing new.
_FATES = {
    "sent": Fate.SENT,
    "delivered": Fate.DELIVERED,
    "read": Fate.READ,
    "undelivered": Fate.FAILED,
    "failed": Fate.FAILED,
}


class Twilio(Provider[Sms]):
    """One account.

    OPTIONS: ACCOUNT_SID, AUTH_TOKEN, FROM (a number of the account, a sender id, or the id of a
    messaging service). Optional: CALLBACK_URL (this project's address for status callbacks, as
    Twilio sees it), API_URL.
    """

    channels = ("sms",)

    @property
    def api_url(self) -> str:
        """Where the API is, with its version."""
        return str(self.options.get("API_URL") or API_URL).rstrip("/")

    @property
    def token(self) -> str:
        """The key of the account, which signs callbacks too."""
        return str(self.options.get("AUTH_TOKEN") or "")

    @property
    def account(self) -> str:
        """The id of the account."""
        return str(self.options.get("ACCOUNT_SID") or "")

    @property
    def sender(self) -> str:
        """Whom messages come from: a number, a name, or the id of a messaging service."""
        return str(self.options.get("FROM") or "")

    @property
    def messages_url(self) -> str:
        """Where messages are made and listed."""
        return f"{self.api_url}/Accounts/{self.account}/Messages.json"

    def connect(self) -> TwilioSession:
        """A session that connects with its first message."""
        return TwilioSession(self)

    def callback_url(self, message: Sms) -> str:
        """Where Twilio tells what becomes of `message`; empty for nowhere."""
        url = str(self.options.get("CALLBACK_URL") or "")
        return f"{url}?{urlencode({'notification': message.id})}" if url else ""

    def receive(self, callback: Callback) -> Sequence[Report]:
        """What became of a message ("Track outbound message status" in Twilio's documentation)."""
        fields = self._checked(callback)
        sid, status = fields.get("MessageSid", ""), fields.get("MessageStatus", "")
        if not (sid and status):
            raise BadCallback("It tells no MessageSid and MessageStatus.")
        if status not in _FATES:
            return []
        about = callback.query.get("notification", "")
        number = fields.get("ErrorCode", "")
        code = int(number) if number.isascii() and number.isdigit() and number != "0" else None
        text = blot(fields.get("ErrorMessage", ""), [fields.get("To", ""), self.token])
        report = replace(
            _report(sid, status, code, text),
            notification_id=int(about) if about.isascii() and about.isdigit() else None,
            to=fields.get("To", ""),
        )
        return [report]

    def look_up(self, to: str, since: datetime, until: datetime) -> list[Found] | None:
        """What the account sent to the number `to` ("Read multiple Message resources": with the
        last sent first, `date_created` as RFC 2822 has it).

        Raises requests.RequestException, and ValueError for what is no answer of the API.
        """
        client, _wire = open_client()
        with client:
            client.auth = (self.account, self.token)
            answer = client.get(
                self.messages_url,
                params={"To": to, "PageSize": str(PAGE)},
                timeout=self.timeout,
                allow_redirects=False,
            )
        body = read_json(answer)
        if not isinstance(body, dict) or "messages" not in body:
            raise ValueError(f"{answer.status_code} {blot(answer.reason or '', [self.token, to])}")
        told = [(_read_date(each), each) for each in body["messages"]]
        if body.get("next_page_uri") and min(created for created, _each in told) > since:
            return None  # it has had more messages since than one page holds
        return [self._read(each) for created, each in told if since <= created <= until]

    def identify(self, message: Sms) -> str:
        """Its sender and its text."""
        return _name(self.sender, message.text)

    def _read(self, told: Mapping[str, Any]) -> Found:
        """What a Message resource says. A messaging service chooses a number to send from."""
        status, code = str(told["status"]), told.get("error_code")
        text = blot(str(told.get("error_message") or ""), [str(told["to"]), self.token])
        senders = [str(told.get(each) or "") for each in ("from", "messaging_service_sid")]
        return Found(
            _report(str(told["sid"]), status, None if code is None else int(code), text),
            names=tuple(_name(each, str(told.get("body") or "")) for each in senders if each),
            ours=self.sender in senders,
        )

    def _checked(self, callback: Callback) -> dict[str, str]:
        """The fields of a callback whose signature is right ("Webhooks security" there)."""
        if not self.token:
            raise NotConfigured(f"The provider {self.name!r} has no AUTH_TOKEN.")
        if len(callback.body) > LARGEST:  # reading and sorting it is work, before it is believed
            raise BadCallback("It is larger than any status callback.")
        try:
            pairs = parse_qsl(
                callback.body.decode(),
                keep_blank_values=True,
                strict_parsing=bool(callback.body),
                max_num_fields=MOST_FIELDS,
            )
        except ValueError:
            pairs = []
        # The address as Twilio has it: a proxy may have changed what this server sees of it.
        query = urlsplit(callback.url).query
        url = str(self.options.get("CALLBACK_URL") or "") or callback.url.partition("?")[0]
        right = sign(self.token, f"{url}?{query}" if query else url, pairs)
        given = callback.headers.get("x-twilio-signature", "")
        if not hmac.compare_digest(given.encode(), right.encode()):
            raise Forged("Its signature is not ours.")
        return dict(pairs)

    def check(self) -> list[CheckMessage]:
        """What is wrong with its options."""
        return check_options(
            self,
            known=OPTION_NAMES,
            needed=("ACCOUNT_SID", "AUTH_TOKEN", "FROM"),
            where="They are on the first page of console.twilio.com.",
            wanted={"CALLBACK_URL": "nobody learns what became of a message"},
            api_url=self.api_url,
        )


class TwilioSession(HttpSession[Sms]):
    """One connection, kept open."""

    def __init__(self, provider: Twilio) -> None:
        super().__init__(*open_client())
        self._provider = provider
        self.client.auth = (provider.account, provider.token)

    def ask(self, message: Sms) -> requests.Response:
        """Post the message."""
        return self.client.post(
            self._provider.messages_url,
            data=build_fields(message, self._provider),
            # The whole call is watched; a single silent read ends before.
            timeout=self._provider.timeout * 0.9,
            allow_redirects=False,
        )

    def read(self, answer: requests.Response, message: Sms) -> Outcome:
        """What the API says."""
        body = read_json(answer)
        said = body.get("message") if isinstance(body, dict) else None
        text = self.clean(said if isinstance(said, str) else answer.reason or "", message)
        return judge_answer(answer.status_code, answer.headers, body, text)

    def clean(self, text: str, message: Sms) -> str:
        """`text` without the token, and without what `message` says and to whom."""
        private = [self._provider.token, message.to, message.to.lstrip("+"), message.text]
        return blot(unquote(text, [message.text]), private)


def build_fields(message: Sms, provider: Twilio) -> dict[str, str]:
    """The request of a message ("Create a Message" in Twilio's documentation)."""
    by = "MessagingServiceSid" if provider.sender.startswith(SERVICE) else "From"
    fields = {"To": message.to, by: provider.sender, "Body": message.text}
    if url := provider.callback_url(message):
        fields["StatusCallback"] = url
    return fields


def _report(sid: str, status: str, code: int | None, text: str) -> Report:
    """What a status means; one that is on its way to "sent" has been taken."""
    fate = _FATES.get(status, Fate.SENT)
    outcome = judge_report(code, text) if fate is Fate.FAILED else None
    return Report(
        fate=fate,
        message_id=sid,
        key=f"{sid}:{status}",
        code="" if code is None else str(code),
        text=text,
        outcome=outcome,
    )


def _name(sender: str, text: str) -> str:
    return f"{sender}\x1f{text}"


def _read_date(told: Mapping[str, Any]) -> datetime:
    return parsedate_to_datetime(str(told["date_created"]))


def sign(token: str, url: str, fields: Sequence[tuple[str, str]]) -> str:
    """The X-Twilio-Signature of a POST of `fields` to `url` ("Webhooks security")."""
    text = url + "".join(name + value for name, value in sorted(set(fields)))
    return b64encode(hmac.digest(token.encode(), text.encode(), "sha1")).decode()
