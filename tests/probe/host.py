"""Jobs of the host's own."""

from __future__ import annotations

from typing import Any


def add(one: Any, other: Any) -> Any:
    """Their sum."""
    return one + other
