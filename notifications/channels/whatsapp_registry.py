"""What code declares, compared with the templates that Meta approved.

The registry is the table of `RegisteredTemplate`, filled every night (`synchronising`). It may
lag behind: a difference warns, and explains a refusal; it never stops a message.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import DatabaseError

from notifications.channels.whatsapp_template import WhatsAppTemplate
from notifications.message import Media, Parameter, WhatsApp
from notifications.models import RegisteredTemplate

logger = logging.getLogger("notifications.templates")

FRESH = 60.0  # seconds a process may go on with what it knows

Slots = Mapping[str, str]  # "body {{1}}", "header image", "button 1 url" -> what it is

_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")

_known: tuple[float, dict[tuple[str, str], Slots]] | None = None


def difference(template: WhatsAppTemplate, language: str) -> str:
    """How `template` differs from its approved translation; empty if it does not, or if the
    registry does not know it."""
    known = _registered().get((template.name, language))
    return "" if known is None else "; ".join(differences(template.slots(), known))


def differences(ours: Slots, theirs: Slots) -> list[str]:
    """Every place that only one of the two has."""
    lacking = [f"{place} gets no value" for place in theirs if place not in ours]
    return [
        *lacking,
        *(
            f"{place} ({given}) is not in the approved template"
            for place, given in ours.items()
            if place not in theirs and not place.endswith("quick_reply")
        ),
    ]


def slots(components: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The places that a template of the API has ("Template components" in Meta's documentation)."""
    found: dict[str, str] = {}
    for each in components:
        match str(each.get("type", "")).upper():
            case "HEADER":
                form = str(each.get("format", "TEXT")).lower()
                if form != "text":
                    found[f"header {form}"] = form
                found |= {f"header {{{{{name}}}}}": name for name in _placeholders(each)}
            case "BODY":
                found |= {f"body {{{{{name}}}}}": name for name in _placeholders(each)}
            case "BUTTONS":
                for place, button in enumerate(each.get("buttons", ()), start=1):
                    kind = str(button.get("type", "")).upper()
                    if kind == "URL" and _PLACEHOLDER.search(str(button.get("url", ""))):
                        found[f"button {place} url"] = "url"
                    elif kind == "COPY_CODE":
                        found[f"button {place} copy_code"] = "copy_code"
    return found


def words(message: WhatsApp) -> tuple[list[str], list[str]] | None:
    """What its recipient reads: paragraphs, and the texts of buttons. None if the registry does not
    know the template."""
    row = RegisteredTemplate.objects.filter(
        name=message.template, language=message.language
    ).first()
    if row is None:
        return None
    paragraphs: list[str] = []
    buttons: list[str] = []
    header = (message.header,) if isinstance(message.header, Parameter) else ()
    for each in row.components:
        match str(each.get("type", "")).upper():
            case "HEADER":
                if isinstance(message.header, Media):
                    paragraphs.append(f"[{message.header.type}]")
                else:
                    paragraphs.append(_fill(str(each.get("text", "")), header))
            case "BODY":
                paragraphs.append(_fill(str(each.get("text", "")), message.body))
            case "FOOTER":
                paragraphs.append(str(each.get("text", "")))
            case "BUTTONS":
                buttons += [str(button.get("text", "")) for button in each.get("buttons", ())]
    return paragraphs, buttons


def _fill(text: str, parameters: Sequence[Parameter]) -> str:
    values = {each.name or str(place): each.value for place, each in enumerate(parameters, start=1)}
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def forget() -> None:
    """Look at the table again at the next message."""
    global _known
    _known = None


def _placeholders(component: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(_PLACEHOLDER.findall(str(component.get("text", "")))))


def _registered() -> dict[tuple[str, str], Slots]:
    global _known
    now = time.monotonic()
    if _known is None or now - _known[0] > FRESH:
        try:
            rows = RegisteredTemplate.objects.values_list("name", "language", "components")
            _known = (now, {(name, code): slots(parts) for name, code, parts in rows})
        except DatabaseError as error:  # a message must not fail for want of a comparison
            logger.info("the WhatsApp templates cannot be read: %s", type(error).__name__)
            return {} if _known is None else _known[1]
    return _known[1]
