"""Meta's WhatsApp Cloud API, as far as a sender of templates sees it, on loopback.

    with WhatsAppServer(templates=[
        Template("order_confirmation", body="Hello {{1}}, we have your order {{2}}."),
    ]) as server:
        ...                     # API_URL=server.api_url, TOKEN=server.token, …: server.options
        server.wait_for(1)
        server.accepted[0].text     # "Hello Ada, we have your order 7K2M-Q9XA."

    WhatsAppServer(answers=[
        Answer(code=130429, times=2),              # refused with this error code
        Answer(then="hang", accept=True),          # takes the message and never says so
        Answer(accept=True, status=200, fails=131026),   # taken, and reported as failed later
    ], callback_url="https://shop.example.com/webhooks/whatsapp_cloud/")

It checks requests against the registered templates and refuses them with the codes of Meta's
documentation ("Send message templates", "Error codes"). What it takes it reports to
`callback_url`: sent, delivered and read, signed as Meta signs ("Webhooks", section on validating
payloads). It runs in threads of its own and needs nothing but Python.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any, Literal

from notifications.testing import http_server
from notifications.testing.http_server import Reply, Request
from notifications.testing.reporter import ReportingServer

__all__ = ["Accepted", "Answer", "Template", "WhatsAppServer", "find_refusal"]

LONGEST_BODY = 1024  # characters of a filled-in body

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_FIELDS = frozenset(
    (
        "messaging_product", "recipient_type", "to", "type", "template",
        "biz_opaque_callback_data",
    )
)  # fmt: skip

# What Meta says beside a code, as far as it matters to a sender.
_TITLES = {
    100: "Invalid parameter",
    131008: "Required parameter is missing",
    131009: "Parameter value is not valid",
    132000: "Number of parameters does not match the expected number of params",
    132001: "Template name does not exist in the translation",
    132005: "Translated text too long",
    132012: "Parameter format does not match format in the created template",
    132015: "Template is paused",
    132016: "Template is disabled",
    190: "Invalid OAuth access token - Cannot parse access token",
}
# The HTTP status that comes with a code; 400 with all others.
_STATUSES = {
    **dict.fromkeys((0, 190), 401),
    **dict.fromkeys((3, 131000, 131016, 131057), 500),
    **dict.fromkeys((2,), 503),
    **dict.fromkeys((10, *range(200, 300), 368, 131005, 131031), 403),
    **dict.fromkeys((132001,), 404),
    **dict.fromkeys((4, 80007, 130429, 131056), 429),
}


@dataclass(slots=True)
class Answer(http_server.Answer):
    """A scripted answer: an error `code` of Meta's, or what `http_server.Answer` offers.

    With neither a code nor a status above 200 it is the usual success.
    """

    status: int = 0  # 0: the one that belongs to `code`
    code: int | None = None
    subcode: int = 0
    details: str = ""
    fails: int | None = None  # what is accepted is reported as failed, with this code


@dataclass(frozen=True, slots=True)
class Template:
    """A template as it is registered in the account."""

    name: str
    language: str = "en_US"
    body: str = ""  # with {{1}} or {{name}}
    header: str = ""  # text, perhaps with a placeholder; or "image", "video", "document"
    footer: str = ""
    buttons: Sequence[Mapping[str, str]] = ()  # as the API tells them
    category: str = "UTILITY"
    status: Literal["APPROVED", "PENDING", "REJECTED", "PAUSED", "DISABLED"] = "APPROVED"
    named: bool = False

    def describe(self, number: int) -> dict[str, Any]:
        """As GET message_templates tells it."""
        components: list[dict[str, Any]] = []
        if self.header in ("image", "video", "document"):
            components.append({"type": "HEADER", "format": self.header.upper()})
        elif self.header:
            components.append({"type": "HEADER", "format": "TEXT", "text": self.header})
        components.append({"type": "BODY", "text": self.body})
        if self.footer:
            components.append({"type": "FOOTER", "text": self.footer})
        if self.buttons:
            components.append({"type": "BUTTONS", "buttons": [dict(each) for each in self.buttons]})
        return {
            "name": self.name,
            "parameter_format": "NAMED" if self.named else "POSITIONAL",
            "components": components,
            "language": self.language,
            "status": self.status,
            "category": self.category,
            "id": str(number),
        }


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that was taken."""

    id: str  # its wamid
    to: str
    template: str
    language: str
    text: str  # header, body and footer with their parameters, as the recipient reads them
    buttons: tuple[str, ...]
    data: str  # biz_opaque_callback_data
    payload: dict[str, Any] = field(repr=False, default_factory=dict)


class WhatsAppServer(ReportingServer[Answer, Accepted]):
    """Takes messages like the Cloud API, and sends none."""

    def __init__(
        self,
        *,
        port: int = 0,
        templates: Sequence[Template] = (),
        answers: Sequence[Answer] = (),
        token: str = "EAAG-only-for-tests",
        phone_id: str = "106540352242922",
        business_id: str = "102290129340398",
        app_secret: str = "app-secret-only-for-tests",
        verify_token: str = "verify-token-only-for-tests",
        version: str = "v24.0",
        callback_url: str = "",
        delivered_after: float = 0.2,
        read_after: float | None = 0.5,
        on_message: Callable[[Accepted], object] | None = None,
    ) -> None:
        """`answers` are looked through in their order at each request. `delivered_after` and
        `read_after` are seconds after the acceptance; None: nobody reads it. Without a
        `callback_url` nothing is reported. `on_message` is called with each message taken, in one
        of the server's threads.
        """
        super().__init__(
            port=port,
            answers=answers,
            callback_url=callback_url,
            delivered_after=delivered_after,
            on_message=on_message,
        )
        self.templates = list(templates)
        self.token = token
        self.phone_id = phone_id
        self.business_id = business_id
        self.app_secret = app_secret
        self.verify_token = verify_token
        self.version = version
        self.read_after = read_after

    @property
    def api_url(self) -> str:
        """The API's address, with the version."""
        return f"{self.origin}/{self.version}"

    @property
    def options(self) -> dict[str, str]:
        """The OPTIONS of a provider that talks to this server."""
        return {
            "API_URL": self.api_url,
            "TOKEN": self.token,
            "PHONE_ID": self.phone_id,
            "BUSINESS_ID": self.business_id,
            "APP_SECRET": self.app_secret,
            "VERIFY_TOKEN": self.verify_token,
        }

    # -- the API ----------------------------------------------------------------------------

    def respond(self, request: Request) -> Reply:
        """Send a message, or list the templates."""
        root = f"/{self.version}/"
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _refuse(Refusal(190))
        if (request.method, request.path) == ("POST", f"{root}{self.phone_id}/messages"):
            return self._take(request)
        if (request.method, request.path) == ("GET", f"{root}{self.business_id}/message_templates"):
            return self._list(request)
        object_id = request.path.removeprefix(root).partition("/")[0]
        return _refuse(
            Refusal(
                100,
                message=f"Unsupported {request.method.lower()} request. Object with ID "
                f"'{object_id}' does not exist, cannot be loaded due to missing permissions, or "
                "does not support this operation",
                subcode=33,
            )
        )

    def keep_anyway(self, request: Request, answer: Answer) -> None:
        """Take the message over, and report its failure if the answer says so."""
        if isinstance(request.payload, dict):
            self._keep(request.payload, fails=answer.fails)

    def put(self, answer: Answer) -> Reply:
        """The answer's error; the usual success where it has none."""
        if answer.code is not None:
            refusal = Refusal(answer.code, answer.details, answer.message, answer.subcode)
            return changed(_refuse(refusal, answer.status), headers=answer.headers)
        if answer.status >= 300:
            return Reply(answer.status, None, answer.headers)
        body = None if not self.accepted else _describe(self.accepted[-1])
        return Reply(answer.status or 200, body, answer.headers)

    def _take(self, request: Request) -> Reply:
        if not isinstance(request.payload, dict):
            return _refuse(Refusal(100, "The request is no JSON object."))
        refusal = find_refusal(request.payload, self.templates)
        if refusal is not None:
            return _refuse(refusal)
        return Reply(200, _describe(self._keep(request.payload)))

    def _keep(self, payload: dict[str, Any], *, fails: int | None = None) -> Accepted:
        given = payload.get("template") or {}
        name, language = given.get("name", ""), (given.get("language") or {}).get("code", "")
        template = _find(self.templates, name, language)
        message = Accepted(
            id=f"wamid.{uuid.uuid4().hex}",
            to=str(payload.get("to", "")),
            template=name,
            language=language,
            text="" if template is None else _fill(template, given),
            buttons=() if template is None else tuple(each["text"] for each in template.buttons),
            data=str(payload.get("biz_opaque_callback_data", "")),
            payload=payload,
        )
        self.take(message, message.data)
        self._report(message, fails)
        return message

    def _list(self, request: Request) -> Reply:
        """One page; a cursor is the number of the last template before it."""
        limit = int(request.query.get("limit", 25))
        start = int(request.query.get("after", 0))
        page = self.templates[start : start + limit]
        end = start + len(page)
        paging: dict[str, Any] = {"cursors": {"before": str(start), "after": str(end)}}
        if end < len(self.templates):
            paging["next"] = f"{self.origin}{request.path}?limit={limit}&after={end}"
        data = [each.describe(start + place) for place, each in enumerate(page, start=1)]
        return Reply(200, {"data": data, "paging": paging})

    # -- webhooks ---------------------------------------------------------------------------

    def _report(self, message: Accepted, fails: int | None) -> None:
        self._tell(0.0, self.describe_status(message, "sent"))
        if fails is not None:
            error = {
                "code": fails,
                "title": _TITLES.get(fails, f"Error {fails}"),
                "message": _TITLES.get(fails, f"Error {fails}"),
                "error_data": {"details": f"The message could not be delivered ({fails})."},
            }
            body = self.describe_status(message, "failed", errors=[error])
            self._tell(self.delivered_after, body)
            return
        self._tell(self.delivered_after, self.describe_status(message, "delivered"))
        if self.read_after is not None:
            self._tell(self.read_after, self.describe_status(message, "read"))

    def _tell(self, seconds: float, body: Mapping[str, Any]) -> None:
        if self.callback_url:
            raw = json.dumps(body).encode()
            headers = {"Content-Type": "application/json", "X-Hub-Signature-256": self.sign(raw)}
            self.reporter.later(seconds, self.callback_url, raw, headers)

    def describe_status(
        self, message: Accepted, status: str, *, errors: Sequence[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        """The webhook that tells a message's status."""
        told: dict[str, Any] = {
            "id": message.id,
            "status": status,
            "timestamp": str(int(time.time())),
            "recipient_id": message.to.lstrip("+"),
        }
        if message.data:
            told["biz_opaque_callback_data"] = message.data
        if errors:
            told["errors"] = list(errors)
        value = {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "12025550100", "phone_number_id": self.phone_id},
            "statuses": [told],
        }
        entry = {"id": self.business_id, "changes": [{"value": value, "field": "messages"}]}
        return {"object": "whatsapp_business_account", "entry": [entry]}

    def sign(self, body: bytes) -> str:
        """The X-Hub-Signature-256 of a webhook."""
        return sign(self.app_secret, body)


# -- reports --------------------------------------------------------------------------------


def sign(secret: str, body: bytes) -> str:
    """The header by which a webhook proves that it comes from Meta."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


# -- what the API checks --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error of the API."""

    code: int
    details: str = ""
    message: str = ""  # empty: the code's title
    subcode: int = 0


def _refuse(refusal: Refusal, status: int = 0) -> Reply:
    title = refusal.message or _TITLES.get(refusal.code, f"Error {refusal.code}")
    error: dict[str, Any] = {
        "message": f"(#{refusal.code}) {title}",
        "type": "OAuthException",
        "code": refusal.code,
        "fbtrace_id": uuid.uuid4().hex[:23],
    }
    if refusal.subcode:
        error["error_subcode"] = refusal.subcode
    if refusal.details:
        error["error_data"] = {"messaging_product": "whatsapp", "details": refusal.details}
    return Reply(status or _STATUSES.get(refusal.code, 400), {"error": error})


def _describe(message: Accepted) -> dict[str, Any]:
    return {
        "messaging_product": "whatsapp",
        "contacts": [{"input": message.to, "wa_id": message.to.lstrip("+")}],
        "messages": [{"id": message.id, "message_status": "accepted"}],
    }


def find_refusal(payload: Mapping[str, Any], templates: Sequence[Template]) -> Refusal | None:
    """Why the API refuses a message; None if it takes it."""
    return next(_refusals(payload, templates), None)


def _refusals(payload: Mapping[str, Any], templates: Sequence[Template]) -> Iterator[Refusal]:
    for name in sorted(set(payload) - _FIELDS):
        yield Refusal(100, f"Unexpected key {name!r}")
    if payload.get("messaging_product") != "whatsapp":
        yield Refusal(100, "The parameter messaging_product is required.")
    if not re.fullmatch(r"\+?[1-9][0-9]{6,14}", str(payload.get("to", ""))):
        yield Refusal(131009, "to is no phone number")
    if payload.get("type") != "template" or not isinstance(payload.get("template"), dict):
        yield Refusal(131008, "template is missing")
        return
    given = payload["template"]
    name, language = given.get("name"), (given.get("language") or {}).get("code")
    template = _find(templates, name, language)
    if template is None or template.status in ("PENDING", "REJECTED"):
        yield Refusal(132001, f"template name ({name}) does not exist in {language}")
        return
    if template.status == "PAUSED":
        yield Refusal(132015)
    if template.status == "DISABLED":
        yield Refusal(132016)
    components = given.get("components", [])
    yield from _check_header(template, _parameters(components, "header"))
    yield from _check_text("body", template.body, _parameters(components, "body"), template.named)
    yield from _check_buttons(template, components)
    if len(_fill(template, given)) > LONGEST_BODY:
        yield Refusal(132005)


def _find(templates: Sequence[Template], name: Any, language: Any) -> Template | None:
    fitting = (each for each in templates if (each.name, each.language) == (name, language))
    return next(fitting, None)


def _parameters(components: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [
        parameter
        for component in components
        if component.get("type") == kind
        for parameter in component.get("parameters", ())
    ]


def _check_header(template: Template, given: list[dict[str, Any]]) -> Iterator[Refusal]:
    form = template.header
    if form not in ("image", "video", "document"):
        yield from _check_text("header", form, given, template.named)
        return
    if len(given) != 1:
        yield _miscounted("header", len(given), 1)
    elif given[0].get("type") != form:
        yield _misformed("header", form.upper(), given[0])
    elif not str((given[0].get(form) or {}).get("link", "")).startswith("http"):
        yield Refusal(131009, f"header: {form} has no link")


def _check_text(
    where: str, text: str, given: list[dict[str, Any]], named: bool
) -> Iterator[Refusal]:
    expected = list(dict.fromkeys(_PLACEHOLDER.findall(text)))
    if len(given) != len(expected):
        yield _miscounted(where, len(given), len(expected))
        return
    for place, parameter in enumerate(given):
        if parameter.get("type") not in ("text", "currency", "date_time"):
            yield _misformed(where, "TEXT", parameter)
            return
        value = parameter.get("text")
        if not isinstance(value, str) or not value:
            yield Refusal(131008, f"{where}: parameter {place} lacks its text")
        elif re.search(r"[\n\t]| {5}", value):
            yield Refusal(100, "Param text cannot have new-line/tab characters or 5 spaces")
    names = [parameter.get("parameter_name") for parameter in given]
    if named and set(names) != set(expected):
        yield Refusal(100, f"{where}: Parameter name is missing or empty")
    elif not named and any(names):
        yield Refusal(132012, f"{where}: the template's parameters have no names")


def _check_buttons(
    template: Template, components: Sequence[Mapping[str, Any]]
) -> Iterator[Refusal]:
    given = {str(each.get("index")): each for each in components if each.get("type") == "button"}
    for place, button in enumerate(template.buttons):
        component = given.pop(str(place), None)
        kind = {"URL": "url", "COPY_CODE": "copy_code", "QUICK_REPLY": "quick_reply"}.get(
            button.get("type", "")
        )
        needed = kind == "copy_code" or (kind == "url" and "{{1}}" in button.get("url", ""))
        if component is None:
            if needed:
                yield Refusal(131008, f"buttons: Button at index {place} requires a parameter")
            continue
        if component.get("sub_type") != kind or not (needed or kind == "quick_reply"):
            yield Refusal(132012, f"buttons: Button at index {place} takes no such parameter")
        elif not any(
            parameter.get(name)
            for parameter in component.get("parameters", ())
            for name in ("text", "payload", "coupon_code")
        ):
            yield Refusal(131008, f"buttons: Button at index {place} lacks its value")
    for index in given:
        yield Refusal(132012, f"buttons: There is no button at index {index}")


def _miscounted(where: str, given: int, expected: int) -> Refusal:
    return Refusal(
        132000,
        f"{where}: number of localizable_params ({given}) does not match the expected number of "
        f"params ({expected})",
    )


def _misformed(where: str, expected: str, given: Mapping[str, Any]) -> Refusal:
    kind = str(given.get("type", "")).upper() or "UNKNOWN"
    return Refusal(132012, f"{where}: Format mismatch, expected {expected}, received {kind}")


def _fill(template: Template, given: Mapping[str, Any]) -> str:
    """What the recipient reads."""
    components = given.get("components", [])
    parts = []
    for where, text in (("header", template.header), ("body", template.body)):
        values = _parameters(components, where)
        for place, parameter in enumerate(values, start=1):
            name = str(parameter.get("parameter_name") or place)
            text = text.replace(f"{{{{{name}}}}}", str(parameter.get("text", "")))
        parts.append(text)
    return "\n".join(part for part in (*parts, template.footer) if part)
