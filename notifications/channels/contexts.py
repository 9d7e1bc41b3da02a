"""What the templates of every channel get: plain values, in the recipient's language."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.utils import translation
from django.utils.functional import Promise

from notifications.errors import InvalidMessage

if TYPE_CHECKING:
    from notifications.models import Notification

_PLAIN = frozenset((str, int, float, bool, type(None), Decimal, date, datetime))
_PLAIN_BASES = (str, int, float, Decimal, date, time, timedelta, UUID, Promise)


def in_language_of(row: Notification) -> AbstractContextManager[None]:
    """A block that speaks the row's language; the active one if it names none."""
    if row.language and row.language != translation.get_language():
        return translation.override(row.language)
    return nullcontext()


def refuse_objects(value: Any, *, where: str) -> None:
    """Templates call what can be called: they get plain values, never a model (`order.delete`).

    `where` names the value in the message. Raises InvalidMessage.
    """
    kind = type(value)
    if kind in _PLAIN:
        return
    if isinstance(value, Mapping):
        for name, each in value.items():
            refuse_objects(each, where=f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for place, each in enumerate(value):
            refuse_objects(each, where=f"{where}.{place}")
    elif not isinstance(value, _PLAIN_BASES):
        raise InvalidMessage(
            f"{where} is a {kind.__qualname__}; templates get plain values only (text, numbers, "
            "dates, lists and dicts of them)."
        )
