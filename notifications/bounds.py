"""How far lists look, so that none ever reads a whole big table."""

from __future__ import annotations

import re
from typing import Any

from notifications.models import Notification, Task

LOOKED_THROUGH = 200_000  # newest rows that a filter without an index looks through


def read_key(text: str) -> int | None:
    """The primary key that somebody typed; None for what no row can have, which databases and
    Python refuse in ways of their own."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def floor_of(model: type[Notification] | type[Task] | Any) -> int:
    """The newest LOOKED_THROUGH rows of `model` have primary keys above this."""
    newest = model._default_manager.order_by("-pk").values_list("pk", flat=True).first()
    return (newest or 0) - LOOKED_THROUGH
