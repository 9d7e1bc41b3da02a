"""SendGrid's v3 Mail Send and suppression lists, as far as a sender sees them, on loopback.

    with SendGridServer() as server:
        ...                     # api_url=server.url, api_key=server.api_key
        server.wait_for(1)
        server.accepted[0]["personalizations"]

    SendGridServer(answers=[
        Answer(429, headers={"X-RateLimit-Reset": "1767225600"}, times=1),
        Answer(then="hang", accept=True),      # takes the mail and never says so
    ])

Requests are checked against the reference ("Mail Send" and its page "Errors" on
https://www.twilio.com/docs/sendgrid/api-reference/mail-send): what SendGrid refuses with 400 is
refused here. It runs in threads of its own and needs nothing but Python.
"""

from __future__ import annotations

import json
import re
import uuid
from base64 import b64decode
from binascii import Error as Base64Error
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from notifications.testing.http_server import Answer, HttpServer, Reply, Request
from notifications.testing.sendgrid_events import SendGridEvents

__all__ = ["Answer", "SendGridServer", "find_errors"]

LARGEST = 30 * 1024 * 1024  # bytes of one request

_ADDRESS = re.compile(r"[^@\s<>,]+@[^@\s<>,]+\.[^@\s<>,.]+")
_RESERVED_HEADERS = frozenset(
    (
        "x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type",
        "content-transfer-encoding", "to", "from", "subject", "reply-to", "cc", "bcc",
    )
)  # fmt: skip
_FIELDS = frozenset(
    (
        "personalizations", "from", "reply_to", "reply_to_list", "subject", "content",
        "attachments", "template_id", "sections", "headers", "categories", "custom_args",
        "send_at", "batch_id", "asm", "ip_pool_name", "mail_settings", "tracking_settings",
    )
)  # fmt: skip


class SendGridServer(HttpServer[Answer]):
    """Takes mails like SendGrid, and sends none."""

    def __init__(
        self,
        *,
        api_key: str = "SG.test-key.only-for-tests",
        answers: Sequence[Answer] = (),
        largest: int = LARGEST,
        events: SendGridEvents | None = None,
    ) -> None:
        """`answers` are looked through in their order at each request; `largest` is in bytes;
        `events` reports what becomes of accepted mails."""
        super().__init__(answers=answers)
        self.api_key = api_key
        self.largest = largest
        self.events = events
        self.suppressed: dict[str, list[str]] = {}  # addresses by list: "bounces", "unsubscribes"
        self.accepted: list[dict[str, Any]] = []
        self.deliveries: Counter[str] = Counter()  # mails by their custom_args.notification_id

    @property
    def url(self) -> str:
        """The API's address, which ends with /v3/."""
        return f"{self.origin}/v3/"

    def wait_for(self, count: int, *, seconds: float = 10.0) -> list[dict[str, Any]]:
        """The accepted mails, once there are `count`. Raises TimeoutError."""
        with self.arrived:
            if not self.arrived.wait_for(lambda: len(self.accepted) >= count, timeout=seconds):
                raise TimeoutError(f"{len(self.accepted)} of {count} mails after {seconds} s")
            return list(self.accepted)

    def respond(self, request: Request) -> Reply:
        """Mail Send, or one of the suppression lists."""
        if request.method == "GET" and request.path.startswith("/v3/suppression/"):
            return self._list(request)
        status, errors = self._judge(request)
        if status == 202:
            self._keep(request.payload)
        return _reply(status, errors)

    def keep_anyway(self, request: Request, answer: Answer) -> None:
        """Take the mail over."""
        if isinstance(request.payload, dict):
            self._keep(request.payload)

    def put(self, answer: Answer) -> Reply:
        """With one error, if the answer has a message."""
        errors = [_error(None, answer.message)] if answer.message else []
        return _reply(answer.status, errors, answer.headers)

    def _keep(self, payload: dict[str, Any]) -> None:
        number = str((payload.get("custom_args") or {}).get("notification_id", ""))
        with self.arrived:
            self.accepted.append(payload)
            self.deliveries[number] += 1
            self.arrived.notify_all()
        if self.events is not None:
            self.events.accept(payload)

    def _list(self, request: Request) -> Reply:
        """One page ("Retrieve all bounces" and its like)."""
        if request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return _reply(401, [_error(None, "authorization required")])
        start, limit = (int(request.query.get(name, 0)) for name in ("offset", "limit"))
        addresses = self.suppressed.get(request.path.removeprefix("/v3/suppression/"), [])
        page = addresses[start : start + min(limit or 500, 500)]
        return Reply(200, [{"created": 1443651125, "email": each} for each in page])

    def _judge(self, request: Request) -> tuple[int, list[dict[str, Any]]]:
        if (request.method, request.path) != ("POST", "/v3/mail/send"):
            return 404, [_error(None, "not found")]
        if request.headers.get("Authorization") != f"Bearer {self.api_key}":
            message = "The provided authorization grant is invalid, expired, or revoked"
            return 401, [_error(None, message)]
        if len(request.raw) > self.largest:
            return 413, [_error(None, "The request is too large.")]
        content_type = request.headers.get("Content-Type", "").partition(";")[0]
        if content_type.strip() != "application/json":
            return 415, [_error(None, "The Content-Type must be application/json.")]
        if not isinstance(request.payload, dict):
            return 400, [_error(None, "Bad Request")]
        errors = [_error(field, message) for field, message in find_errors(request.payload)]
        return (400, errors) if errors else (202, [])


def _reply(
    status: int, errors: list[dict[str, Any]], headers: Mapping[str, str] | None = None
) -> Reply:
    accepted = {"X-Message-Id": uuid.uuid4().hex[:22]} if status == 202 else {}
    return Reply(status, {"errors": errors} if errors else None, {**accepted, **(headers or {})})


def _error(field: str | None, message: str) -> dict[str, Any]:
    return {"field": field, "message": message, "help": None}


# -- what SendGrid checks -------------------------------------------------------------------


def find_errors(payload: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each field that is wrong, and what is wrong with it."""
    for name in sorted(set(payload) - _FIELDS):
        yield name, "Additional property is not allowed."
    yield from _find_in_personalizations(payload.get("personalizations"))
    yield from _find_in_address("from", payload.get("from"))
    if "reply_to" in payload and "reply_to_list" in payload:
        yield "reply_to", "Only one of reply_to and reply_to_list may be given."
    if "reply_to" in payload:
        yield from _find_in_address("reply_to", payload["reply_to"])
    for each in payload.get("reply_to_list", ()):
        yield from _find_in_address("reply_to_list", each)
    subject = payload.get("subject")
    if not (isinstance(subject, str) and subject) and "template_id" not in payload:
        yield "subject", "The subject is required and must have at least one character."
    yield from _find_in_content(payload)
    yield from _find_in_headers(payload.get("headers", {}))
    yield from _find_in_custom_args(payload.get("custom_args", {}))
    categories = payload.get("categories", [])
    if len(categories) > 10 or len(set(categories)) != len(categories):
        yield "categories", "There may be up to 10 categories, each once."
    if any(not isinstance(each, str) or len(each) > 255 for each in categories):
        yield "categories", "A category is a string of up to 255 characters."
    for each in payload.get("attachments", ()):
        yield from _find_in_attachment(each)


def _find_in_personalizations(given: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(given, list) or not 1 <= len(given) <= 1000:
        yield "personalizations", "There must be 1 to 1000 personalizations."
        return
    for each in given:
        if not each.get("to"):
            yield "personalizations.to", "At least one recipient is required."
        people = [*each.get("to", ()), *each.get("cc", ()), *each.get("bcc", ())]
        for person in people:
            yield from _find_in_address("personalizations.to", person)
        emails = [str(person.get("email")).lower() for person in people]
        if len(set(emails)) != len(emails):
            yield "personalizations", "Each address may be there only once."
        yield from _find_in_custom_args(each.get("custom_args", {}))
        yield from _find_in_headers(each.get("headers", {}))


def _find_in_address(name: str, given: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(given, dict) or set(given) - {"email", "name"}:
        yield name, "This must be an object with an email and perhaps a name."
    elif not isinstance(given.get("email"), str) or not _ADDRESS.fullmatch(given["email"]):
        yield f"{name}.email", "This is no valid email address."
    elif not isinstance(given.get("name", ""), str):
        yield f"{name}.name", "The name must be a string."


def _find_in_content(payload: dict[str, Any]) -> Iterator[tuple[str, str]]:
    content = payload.get("content")
    if not content:
        if "template_id" not in payload:
            yield "content", "At least one content is required."
        return
    types = [each.get("type") for each in content]
    first = [each for each in ("text/plain", "text/html") if each in types]
    if types[: len(first)] != first:
        yield "content", "text/plain must come first, then text/html, then the others."
    for each in content:
        if not isinstance(each.get("value"), str) or not each["value"]:
            yield "content.value", "The value must be a string of at least one character."
        if not each.get("type") or re.search(r"[;\r\n]", each["type"]):
            yield "content.type", "The type must be a media type without ; and line breaks."


def _find_in_headers(headers: Any) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        if name.lower() in _RESERVED_HEADERS:
            yield "headers", f"The header {name} is reserved."
        if not name.isascii() or not isinstance(value, str):
            yield "headers", "Names must be ASCII and values strings."


def _find_in_custom_args(given: Any) -> Iterator[tuple[str, str]]:
    if not all(isinstance(value, str) for value in given.values()):
        yield "custom_args", "Values must be strings."
    elif len(json.dumps(given)) > 10_000:
        yield "custom_args", "There may be up to 10,000 bytes."


def _find_in_attachment(given: Any) -> Iterator[tuple[str, str]]:
    try:
        b64decode(given["content"], validate=True)
    except (KeyError, TypeError, Base64Error):
        yield "attachments.content", "The content must be in base64."
    if not isinstance(given.get("filename"), str):
        yield "attachments.filename", "A filename is required."
    if re.search(r"[\r\n]", given.get("type", "")):
        yield "attachments.type", "The type must have no line breaks."
    if given.get("disposition") == "inline" and not given.get("content_id"):
        yield "attachments.content_id", "What is inline needs a content_id."
