"""Say nothing to anybody, for a while: imports, migrations, repairs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_muted: ContextVar[bool] = ContextVar("notifications_muted", default=False)


@contextmanager
def muted() -> Iterator[None]:
    """Inside, nothing is published or notified: `with muted(): import_old_orders()`."""
    token = _muted.set(True)
    try:
        yield
    finally:
        _muted.reset(token)


def is_muted() -> bool:
    """Whether this thread or task is inside `muted()`."""
    return _muted.get()
