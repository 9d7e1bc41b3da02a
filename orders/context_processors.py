"""What every page of the shop shows."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest


def shop(request: HttpRequest) -> dict[str, object]:
    """The shop's name and contact, and whether there is caught mail to look at."""
    return {
        "shop_name": settings.FROM_NAME,
        "contact_email": settings.CONTACT_EMAIL,
        "shows_caught_mail": bool(settings.CAUGHT_MAIL),
    }
