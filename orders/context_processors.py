"""What every page of the shop shows."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

from orders.basket import KEY


def shop(request: HttpRequest) -> dict[str, object]:
    """The shop's name and contact, what is in the basket, and where caught messages are."""
    return {
        "shop_name": settings.FROM_NAME,
        "contact_email": settings.CONTACT_EMAIL,
        "basket_count": sum(request.session.get(KEY, {}).values()),
        "shows_caught_mail": bool(settings.CAUGHT_MAIL),
        "shows_caught_phones": bool(settings.CAUGHT_PHONES),
    }
