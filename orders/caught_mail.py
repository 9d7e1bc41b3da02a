"""Mail that a catcher kept in a folder instead of delivering it, one numbered file a message.

The demo's mail server writes the files; the shop shows them under DEBUG. Elsewhere there is no
such folder, and no such page.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET


@dataclass(frozen=True, slots=True)
class CaughtMail:
    """One message as people read it."""

    number: int  # counts from 1 in the order of arrival
    at: datetime
    sender: str
    to: str  # envelope recipient
    subject: str
    text: str
    html: str


def keep(folder: Path, number: int, *, recipient: str, content: bytes) -> None:
    """Write one message into `folder`. A reader never sees half of it."""
    path = _path(folder, number)
    draft = path.with_suffix(".part")
    draft.write_bytes(b"X-Caught-For: " + recipient.encode("ascii") + b"\r\n" + content)
    draft.replace(path)


def read(folder: Path, number: int) -> CaughtMail:
    """One message of `folder`. Raises FileNotFoundError."""
    path = _path(folder, number)
    message = message_from_bytes(path.read_bytes(), policy=default)
    text, html = (message.get_body(preferencelist=(kind,)) for kind in ("plain", "html"))
    return CaughtMail(
        number=number,
        at=datetime.fromtimestamp(path.stat().st_mtime, tz=UTC),
        sender=str(message["From"] or ""),
        to=str(message["X-Caught-For"] or ""),
        subject=str(message["Subject"] or ""),
        text=text.get_content() if text else "",
        html=html.get_content() if html else "",
    )


def read_all(folder: Path, *, most: int = 200) -> list[CaughtMail]:
    """The newest messages of `folder`, newest first."""
    numbers = sorted((int(path.stem) for path in folder.glob("*.eml")), reverse=True)
    return [read(folder, number) for number in numbers[:most]]


@require_GET
def inbox(request: HttpRequest) -> HttpResponse:
    """The list of all caught mail."""
    return render(request, "orders/caught_mail.html", {"mails": read_all(_folder())})


@require_GET
def message(request: HttpRequest, number: int) -> HttpResponse:
    """One caught mail."""
    try:
        mail = read(_folder(), number)
    except FileNotFoundError:
        raise Http404 from None
    # Its links open beside the shop: inside the frame they could not be shown.
    html = mail.html.replace("<head>", '<head><base target="_blank">', 1)
    return render(request, "orders/caught_message.html", {"mail": mail, "html": html})


def _folder() -> Path:
    if not settings.CAUGHT_MAIL:
        raise Http404
    return Path(settings.CAUGHT_MAIL)


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.eml"
