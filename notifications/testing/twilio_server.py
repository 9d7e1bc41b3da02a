"""Twilio's Messages API, as far as a sender of SMS sees it, on loopback.

    with TwilioServer() as server:
        ...                     # server.options: the OPTIONS of a provider that talks to it
        server.wait_for(1)
        server.accepted[0].body

    TwilioServer(answers=[
        Answer(code=20429, headers={"Retry-After": "3"}, times=1),   # refused with this code
        Answer(then="hang", accept=True),                 # takes the message and never says so
        Answer(accept=True, fails=30003),                 # taken, and reported as undelivered later
    ])

It checks requests as "Create a Message" says and refuses them with the codes of Twilio's "Error and
Warning Dictionary". What becomes of a message it tells to the message's StatusCallback, signed as
Twilio signs. It runs in threads of its own and needs nothing but Python.
"""

from __future__ import annotations

import hmac
import re
import uuid
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from notifications.testing import http_server
from notifications.testing.http_server import Reply, Request
from notifications.testing.reporter import ReportingServer

__all__ = ["Accepted", "Answer", "TwilioServer", "sign"]

LONGEST = 1600  # characters of a body

_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_MESSAGES = {
    20003: "Authenticate",
    20404: "The requested resource was not found",
    20429: "Too Many Requests",
    21211: "The 'To' number is not a valid phone number.",
    21602: "Message body is required.",
    21603: "A 'From' phone number is required.",
    21604: "A 'To' phone number is required.",
    21610: "Attempt to send to unsubscribed recipient",
    21614: "'To' number is not a valid mobile number",
    21617: "The concatenated message body exceeds the 1600 character limit",
}
_STATUSES = {20003: 401, 20404: 404, 20429: 429}  # 400 with all other codes


@dataclass(slots=True)
class Answer(http_server.Answer):
    """A scripted answer: an error `code` of Twilio's, or what `http_server.Answer` offers.

    With neither a code nor a status above 201 it is the usual success.
    """

    status: int = 0  # 0: the one that belongs to `code`
    code: int | None = None
    fails: int | None = None  # what is accepted is reported as undelivered, with this code


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that was taken."""

    sid: str
    to: str
    sender: str
    body: str
    callback: str  # StatusCallback
    created: datetime
    error: int | None  # why it is not delivered; None: it is
    service: str = ""  # MessagingServiceSid


class TwilioServer(ReportingServer[Answer, Accepted]):
    """Takes text messages like Twilio, and sends none."""

    def __init__(
        self,
        *,
        port: int = 0,
        answers: Sequence[Answer] = (),
        account_sid: str = "AC" + "0" * 31 + "1",
        auth_token: str = "auth-token-only-for-tests",
        callback_url: str = "",
        delivered_after: float = 0.2,
        on_message: Callable[[Accepted], object] | None = None,
    ) -> None:
        """`answers` are looked through in their order at each request; `callback_url` goes into
        `options`. `delivered_after` is in seconds after the acceptance. `on_message` is called with
        each message taken, in one of the server's threads.
        """
        super().__init__(
            port=port,
            answers=answers,
            callback_url=callback_url,
            delivered_after=delivered_after,
            on_message=on_message,
        )
        self.account_sid = account_sid
        self.auth_token = auth_token

    @property
    def options(self) -> dict[str, str]:
        """The OPTIONS of a provider that talks to this server."""
        return {
            "API_URL": f"{self.origin}/2010-04-01",
            "ACCOUNT_SID": self.account_sid,
            "AUTH_TOKEN": self.auth_token,
            "FROM": "+12025550100",
            "CALLBACK_URL": self.callback_url,
        }

    def respond(self, request: Request) -> Reply:
        """Create a message, or list those there are."""
        credentials = b64encode(f"{self.account_sid}:{self.auth_token}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {credentials}":
            return _refuse(20003)
        path = f"/2010-04-01/Accounts/{self.account_sid}/Messages.json"
        if request.path != path or request.method not in ("GET", "POST"):
            return _refuse(20404)
        if request.method == "GET":
            return self._list(request.query)
        fields = _read(request)
        code = _find_refusal(fields)
        return _refuse(code) if code else _created(self._keep(fields, None))

    def keep_anyway(self, request: Request, answer: Answer) -> None:
        """Take the message over, and report its failure if the answer says so."""
        self._keep(_read(request), answer.fails)

    def put(self, answer: Answer) -> Reply:
        """The answer's error; the usual success where it has none."""
        if answer.code is not None:
            return _refuse(answer.code, answer.status, answer.message, answer.headers)
        if answer.status >= 300 or not self.accepted:
            return Reply(answer.status or 500, None, answer.headers)
        return _created(self.accepted[-1])

    def tell(self, message: Accepted, status: str, *, code: int = 0, after: float = 0.0) -> None:
        """Post a status callback."""
        fields = {
            "SmsSid": message.sid,
            "SmsStatus": status,
            "MessageStatus": status,
            "To": message.to,
            "MessageSid": message.sid,
            "AccountSid": self.account_sid,
            "From": message.sender,
            "ApiVersion": "2010-04-01",
            **({"ErrorCode": str(code)} if code else {}),
        }
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
            "X-Twilio-Signature": sign(self.auth_token, message.callback, fields),
        }
        self.reporter.later(after, message.callback, urlencode(fields).encode(), headers)

    def _list(self, query: Mapping[str, str]) -> Reply:
        """The messages to one number, the newest first ("Read multiple Message resources")."""
        found = [each for each in reversed(self.accepted) if query.get("To", each.to) == each.to]
        size = int(query.get("PageSize", "50"))
        more = f"/2010-04-01/Accounts/{self.account_sid}/Messages.json?Page=1"
        body = {
            "messages": [_describe(each, _last(each)) for each in found[:size]],
            "page_size": size,
            "next_page_uri": more if len(found) > size else None,
        }
        return Reply(200, body)

    def _keep(self, fields: Mapping[str, str], fails: int | None) -> Accepted:
        message = Accepted(
            sid=f"SM{uuid.uuid4().hex}",
            to=fields.get("To", ""),
            sender=fields.get("From", ""),
            service=fields.get("MessagingServiceSid", ""),
            body=fields.get("Body", ""),
            callback=fields.get("StatusCallback", ""),
            created=datetime.now(UTC),
            error=fails,
        )
        self.take(message, message.callback)
        if message.callback:
            self.tell(message, "sent")
            self.tell(message, _last(message), code=fails or 0, after=self.delivered_after)
        return message


def sign(token: str, url: str, fields: Mapping[str, str]) -> str:
    """The X-Twilio-Signature of a callback ("Webhooks security" in Twilio's documentation)."""
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return b64encode(hmac.digest(token.encode(), text.encode(), "sha1")).decode()


def _read(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.raw.decode(errors="replace"), keep_blank_values=True))


def _find_refusal(fields: Mapping[str, str]) -> int:
    if not fields.get("To"):
        return 21604
    if not _NUMBER.fullmatch(fields["To"]):
        return 21211
    if not (fields.get("From") or fields.get("MessagingServiceSid")):
        return 21603
    if not fields.get("Body"):
        return 21602
    return 21617 if len(fields["Body"]) > LONGEST else 0


def _refuse(
    code: int, status: int = 0, message: str = "", headers: Mapping[str, str] | None = None
) -> Reply:
    status = status or _STATUSES.get(code, 400)
    body = {
        "code": code,
        "message": message or _MESSAGES.get(code, f"Error {code}"),
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return Reply(status, body, headers or {})


def _created(message: Accepted) -> Reply:
    return Reply(201, {**_describe(message, "queued"), "error_code": None})


def _last(message: Accepted) -> str:
    return "delivered" if message.error is None else "undelivered"


def _describe(message: Accepted, status: str) -> dict[str, Any]:
    return {
        "sid": message.sid,
        "status": status,
        "date_created": format_datetime(message.created),
        "to": message.to,
        "from": message.sender or None,
        "messaging_service_sid": message.service or None,
        "body": message.body,
        "error_code": message.error,
        "error_message": None,
    }
