"""Six digits that prove an email address, or a phone by WhatsApp.

A request stores a nonce and a time, never the code: that is derived from the nonce with the
secret key when it is sent, and again when the user types it. It goes to the address that it
proves and nowhere else, is good for ten minutes and five wrong tries, and a new request makes the
old code worthless.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from notifications import conf
from notifications.dispatch import notify
from orders.models import User, VerificationRequest, new_nonce
from orders.notifications import VerificationCode

LIFETIME = timedelta(minutes=10)
PAUSE = timedelta(seconds=30)  # between two requests of one user
TRIES = 5
ADDRESSES = {"email": "email", "whatsapp": "phone"}  # the user's field, by channel


def can_prove(user: User, channel: str) -> bool:
    """Whether there is an address to prove on `channel`, and a way to send the code."""
    field = ADDRESSES[channel]
    proven = getattr(user, f"{field}_verified_at")
    return channel in conf.channels() and bool(getattr(user, field)) and proven is None


def request_code(user: User, *, channel: str = "email") -> bool:
    """Have a new code sent to the user's address on `channel`; False if one was sent a moment
    ago."""
    now = timezone.now()
    address = getattr(user, ADDRESSES[channel])
    with transaction.atomic():
        known = VerificationRequest.objects.select_for_update().filter(user=user).first()
        if known is not None and known.address == address and now < known.asked_at + PAUSE:
            return False
        VerificationRequest.objects.update_or_create(
            user=user,
            defaults={
                "nonce": new_nonce(),
                "channel": channel,
                "address": address,
                "asked_at": now,
                "expires_at": now + LIFETIME,
                "tries": 0,
            },
        )
        notify(VerificationCode, to=user, channels=[channel], context={"user_id": user.pk})
    return True


def confirm(user: User, code: str) -> bool:
    """Whether `code` is the user's; if so, its address is verified and the code used up."""
    with transaction.atomic():
        request = VerificationRequest.objects.select_for_update().filter(user=user).first()
        if request is None:
            return False
        field = ADDRESSES[request.channel]
        if request.address != getattr(user, field):
            return False
        if request.expires_at <= timezone.now() or request.tries >= TRIES:
            return False
        if not constant_time_compare(code.strip(), request.code):
            VerificationRequest.objects.filter(pk=request.pk).update(tries=F("tries") + 1)
            return False
        request.delete()
        setattr(user, f"{field}_verified_at", timezone.now())
        user.save(update_fields=[f"{field}_verified_at"])
    return True
