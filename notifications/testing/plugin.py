"""A plugin for pytest, found by itself where the package is installed: see docs/testing.md.

The fixtures need Django's apps, so they come when those are loaded.
"""

from __future__ import annotations

import pytest
from django.apps import apps

FIXTURES = "notifications.testing.fixtures"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Bring the fixtures, in projects that have the app."""
    if apps.ready and apps.is_installed("notifications"):
        session.config.pluginmanager.import_plugin(FIXTURES)
