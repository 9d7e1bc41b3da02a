"""How far lists look, so that none ever reads a whole big table."""

from __future__ import annotations

from typing import Any

from notifications.models import Notification, Task

LOOKED_THROUGH = 200_000  # newest rows that a filter without an index looks through


def floor_of(model: type[Notification] | type[Task] | Any) -> int:
    """The newest LOOKED_THROUGH rows of `model` have primary keys above this."""
    newest = model._default_manager.order_by("-pk").values_list("pk", flat=True).first()
    return (newest or 0) - LOOKED_THROUGH
