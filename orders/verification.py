"""Six digits that prove an email address, or a phone by WhatsApp.

A request stores a nonce and a time, never the code: that is derived from the nonce with the
secret key when it is sent, and again when the user types it. It goes to the address that it
proves and nowhere else, is good for ten minutes and five wrong tries, and a new request makes the
old code worthless. A user has a few codes a day, whatever the addresses: they may be a stranger's,
who did not ask for mail, and each code is a few more guesses.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from notifications import conf
from notifications.dispatch import notify
from notifications.models import Notification
from orders.models import User, VerificationRequest, new_nonce
from orders.notifications import VerificationCode

LIFETIME = timedelta(minutes=10)
PAUSE = timedelta(seconds=30)  # between two requests of one user
DAY = timedelta(days=1)
MOST = 10  # codes for one user in a day
TRIES = 5
ADDRESSES = {"email": "email", "whatsapp": "phone"}  # the user's field, by channel


class TooSoon(Exception):
    """Raised when a user asks for a code a moment after the last one was sent."""


class TooMany(Exception):
    """Raised when a user has had all the codes of a day."""


def can_prove(user: User, channel: str) -> bool:
    """Whether there is an address to prove on `channel`, and a way to send the code."""
    field = ADDRESSES[channel]
    proven = getattr(user, f"{field}_verified_at")
    return channel in conf.channels() and bool(getattr(user, field)) and proven is None


def request_code(user: User, *, channel: str = "email") -> None:
    """Have a new code sent to the user's address on `channel`. Raises TooSoon and TooMany."""
    now = timezone.now()
    address = getattr(user, ADDRESSES[channel])
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)  # one request at a time
        if VerificationRequest.objects.filter(user=user, asked_at__gt=now - PAUSE).exists():
            raise TooSoon
        # A request is gone once it was confirmed; the messages tell what was sent.
        sent = Notification.objects.filter(user=user, kind=VerificationCode.name)
        if sent.filter(created_at__gt=Now() - DAY).count() >= MOST:
            raise TooMany
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
