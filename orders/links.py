"""Absolute links: workers have no request to take the host from."""

from __future__ import annotations

from django.conf import settings
from django.urls import reverse


def absolute(view: str, *args: object) -> str:
    """The full address of a page of the shop."""
    return f"{settings.FRONTEND_URL}{reverse(view, args=args)}"
