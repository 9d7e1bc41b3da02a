"""The real browser that acceptance tests drive."""

from __future__ import annotations

import shutil

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next((path for path in map(shutil.which, PROGRAMS) if path), None)

MARKS = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        PROGRAM is None, reason="needs Chromium on the PATH; on Debian: apt-get install chromium"
    ),
]

FLAGS = [
    "--headless",
    "--no-sandbox",  # root may not start it otherwise; it sees our own pages only
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Pages in a sandbox may then fetch from our own servers, which are all on this machine.
    "--disable-features=LocalNetworkAccessChecks",
]

# What a careful host sends: nothing inline, nothing from elsewhere.
POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'"
