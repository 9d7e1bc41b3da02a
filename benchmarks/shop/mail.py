"""Render and send one confirmation as Django's documentation does, over a connection kept open."""

import threading
from collections.abc import Mapping
from typing import Any

from django.core.mail import EmailMultiAlternatives, get_connection
from django.template.loader import get_template

from benchmarks.shop import content

_kept = threading.local()


def send(to: str, values: Mapping[str, Any], *, keep_open: bool = True) -> None:
    """Send the confirmation with these values to `to`."""
    context = dict(values)
    subject, text, html = (
        get_template(name).render(context) for name in (content.SUBJECT, content.TEXT, content.HTML)
    )
    message = EmailMultiAlternatives(subject.strip(), text, to=[to])
    message.attach_alternative(html, "text/html")
    if keep_open:
        _connection().send_messages([message])
    else:
        message.send()


def _connection() -> Any:
    if not hasattr(_kept, "connection"):
        _kept.connection = get_connection()
        _kept.connection.open()
    return _kept.connection
