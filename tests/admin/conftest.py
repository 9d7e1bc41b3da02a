"""The fixture of the admin's tests."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def script() -> Iterator[Any]:
    """The test channel, and what its providers answer (`tests.scripted.Script`)."""
    # Imported late: pytest reads this file before Django has its settings.
    with import_module("tests.scripted").scripted() as running:
        yield running
