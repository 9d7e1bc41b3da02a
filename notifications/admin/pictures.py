"""How a message looks to its recipient: what the sandboxed frame of a preview shows."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from notifications import conf
from notifications.channels import whatsapp_registry
from notifications.channels.sms import count_segments
from notifications.message import Email, Note, Push, Sms, WhatsApp
from notifications.redaction import describe

# Scripts and forms of a message never run, wherever its preview is opened. Pictures of other sites
# are not fetched: to those who count openings it would be the recipient who looks.
POLICY = (
    "sandbox; default-src 'none'; img-src 'self' data: {site}; style-src 'unsafe-inline'; "
    "frame-ancestors 'self'"
)


def show(request: HttpRequest, message: Any) -> HttpResponse:
    """`message` as its recipient sees it; a mail's text with `?text` in the address."""
    match message:
        case Email() if message.html and "text" not in request.GET:
            return _guard(HttpResponse(message.html))
        case Email():
            return _plain(message.text)
        case WhatsApp():
            return _bubble(message, **_read(message))
        case Sms():
            return _bubble(message, lines=[message.text], segments=count_segments(message.text))
        case Note() | Push():
            return _bubble(message, title=message.title, lines=[message.text], link=message.link)
    return _bubble(message, lines=str(message).splitlines())


def refuse(error: Exception) -> HttpResponse:
    """Why nothing can be shown."""
    return _plain(explain(error))


def explain(error: Exception) -> str:
    """Why there is no preview: our own words as they are, others with their class, scrubbed."""
    return str(error) if type(error) is LookupError else describe(error)


def _read(message: WhatsApp) -> dict[str, Any]:
    known = whatsapp_registry.words(message)
    if known is None:
        return {"lines": str(message).splitlines(), "unknown": True}
    return {"lines": known[0], "buttons": known[1]}


def _bubble(message: Any, **values: Any) -> HttpResponse:
    """What a telephone's screen shows."""
    values |= {"message": message, "whatsapp": isinstance(message, WhatsApp)}
    return _guard(HttpResponse(render_to_string("admin/notifications/bubble.html", values)))


def _plain(text: str) -> HttpResponse:
    return _guard(HttpResponse(text, content_type="text/plain; charset=utf-8"))


def _guard(response: HttpResponse) -> HttpResponse:
    shop = urlsplit(str(conf.get("FRONTEND_URL")))
    site = f"{shop.scheme}://{shop.netloc}" if shop.netloc else ""
    response["Content-Security-Policy"] = POLICY.format(site=site)
    return response
