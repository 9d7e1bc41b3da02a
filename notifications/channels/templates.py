"""The templates of mails: found, compiled once a process, and rendered.

The templates of the kind `order_confirmation` are

    notifications/order_confirmation/email.subject.txt
    notifications/order_confirmation/email.txt
    notifications/order_confirmation/email.html

One of the two bodies may be missing. Subject and text are rendered without autoescaping, HTML
with it, so that O'Brien <b> reads the same in all three. Beside the kind's own context they find
`frontend_url`, the origin of absolute links.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.template import Context, Engine

from notifications import conf


@dataclass(frozen=True, slots=True)
class Rendered:
    """The words of one mail."""

    subject: str
    text: str
    html: str


def render(kind: str, context: Mapping[str, Any]) -> Rendered:
    """The mail of `kind` for `context`, in the active language."""
    values = {"frontend_url": conf.get("FRONTEND_URL").rstrip("/"), **context}
    folder = f"notifications/{kind}/email"
    engine = Engine.get_default()
    subject = engine.get_template(f"{folder}.subject.txt").render(Context(values, autoescape=False))
    text = engine.get_template(f"{folder}.txt").render(Context(values, autoescape=False))
    html = engine.get_template(f"{folder}.html").render(Context(values))
    return Rendered(subject.strip(), text, html)


def preload(kinds: Iterable[str]) -> None:
    """Compile what can be."""
