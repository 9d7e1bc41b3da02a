"""The fixtures of the API's tests."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from django.core.cache import cache


@pytest.fixture(autouse=True)
def script() -> Iterator[Any]:
    """The test channel, and what its providers answer (`tests.scripted.Script`)."""
    # Imported late: pytest reads this file before Django has its settings.
    with import_module("tests.scripted").scripted() as running:
        yield running


@pytest.fixture(autouse=True)
def fresh_counts() -> None:
    """Nobody has made a request yet."""
    cache.clear()
