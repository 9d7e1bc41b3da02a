"""What all acceptance tests use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.acceptance.chromium import FLAGS, PROGRAM


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch:
        # Playwright keeps an event loop on this thread, where Django then refuses its database.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        with sync_playwright() as playwright:
            running = playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS)
            yield running
            running.close()


@pytest.fixture
def complaints() -> list[str]:
    """What pages write to the browser's console: broken policies, lost files, errors."""
    return []
