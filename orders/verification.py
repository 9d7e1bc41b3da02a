"""Six digits that prove an email address.

A request stores a nonce and a time, never the code: that is derived from the nonce with the
secret key when the mail is sent, and again when the user types it. It is good for ten minutes and
five wrong tries, and a new request makes the old code worthless.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from notifications.dispatch import notify
from orders.models import User, VerificationRequest, new_nonce
from orders.notifications import VerificationCode

LIFETIME = timedelta(minutes=10)
PAUSE = timedelta(seconds=30)  # between two requests of one user
TRIES = 5


def request_code(user: User) -> bool:
    """Have a new code sent to the user's address; False if one was sent a moment ago."""
    now = timezone.now()
    with transaction.atomic():
        known = VerificationRequest.objects.select_for_update().filter(user=user).first()
        if known is not None and known.email == user.email and now < known.asked_at + PAUSE:
            return False
        VerificationRequest.objects.update_or_create(
            user=user,
            defaults={
                "nonce": new_nonce(),
                "email": user.email,
                "asked_at": now,
                "expires_at": now + LIFETIME,
                "tries": 0,
            },
        )
        notify(VerificationCode, to=user, context={"user_id": user.pk})
    return True


def confirm(user: User, code: str) -> bool:
    """Whether `code` is the user's; if so, the address is verified and the code used up."""
    with transaction.atomic():
        request = VerificationRequest.objects.select_for_update().filter(user=user).first()
        if request is None or request.email != user.email:
            return False
        if request.expires_at <= timezone.now() or request.tries >= TRIES:
            return False
        if not constant_time_compare(code.strip(), request.code):
            VerificationRequest.objects.filter(pk=request.pk).update(tries=F("tries") + 1)
            return False
        request.delete()
        user.email_verified_at = timezone.now()
        user.save(update_fields=["email_verified_at"])
    return True
