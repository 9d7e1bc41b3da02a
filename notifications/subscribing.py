"""Browsers that users let us push to: subscribed by the browser, forgotten when they say so."""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.models import AbstractBaseUser
from django.db import router, transaction

from notifications import conf, contents
from notifications.channels.push import MOST, bare, public_key
from notifications.errors import InvalidAddress, UnknownChannel
from notifications.models import PushSubscription
from notifications.providers.webpush import WebPush

LONGEST = 2_000  # characters of an endpoint

_BASE64 = re.compile(r"[A-Za-z0-9_-]+={0,2}")


def service() -> WebPush:
    """The provider of the push channel. Raises UnknownChannel where there is none."""
    for each in conf.channel("push").providers:
        if isinstance(each, WebPush):
            return each
    raise UnknownChannel("The channel 'push' has no provider for web push.")


def subscribe(user: AbstractBaseUser, given: Any) -> PushSubscription:
    """Keep what a browser told (`PushSubscription.toJSON()`) as `user`'s.

    A browser belongs to whoever subscribed it last; of one user the newest MOST are kept. Raises
    InvalidAddress for what is no subscription, one with a service that is not allowed, or one that
    says it was made with another key (`applicationServerKey`): its page is older than ours. Raises
    UnknownChannel where nothing is pushed.
    """
    endpoint, p256dh, auth = _read(given)
    key = public_key()
    if bare(given.get("applicationServerKey", key)) != key:
        raise InvalidAddress("The key of this site has changed: load the page anew.")
    if not service().allows(endpoint):
        raise InvalidAddress("This push service is not one that messages may be posted to.")
    sealed = contents.seal({"endpoint": endpoint, "p256dh": p256dh, "auth": auth})
    using = router.db_for_write(PushSubscription)
    rows = PushSubscription.objects.using(using)
    with transaction.atomic(using=using):
        rows.filter(digest=_digest(endpoint)).exclude(user_id=user.pk).delete()
        row, _made = rows.update_or_create(
            digest=_digest(endpoint),
            defaults={
                "user_id": user.pk,
                "host": urlsplit(endpoint).hostname or "",
                "key": key,
                "sealed": sealed,
            },
        )
        old = rows.filter(user_id=user.pk).order_by("-pk").values_list("pk", flat=True)[MOST:]
        rows.filter(pk__in=list(old)).delete()
    return row


def unsubscribe(user: AbstractBaseUser, endpoint: str) -> bool:
    """Forget the browser with that endpoint; whether it was `user`'s."""
    found = PushSubscription.objects.filter(user_id=user.pk, digest=_digest(endpoint))
    return bool(found.delete()[0])


def _read(given: Any) -> tuple[str, str, str]:
    keys = given.get("keys") if isinstance(given, Mapping) else None
    if not isinstance(keys, Mapping):
        raise InvalidAddress("A subscription has an endpoint and keys.")
    endpoint, p256dh, auth = given.get("endpoint"), keys.get("p256dh"), keys.get("auth")
    if not (isinstance(endpoint, str) and len(endpoint) <= LONGEST):
        raise InvalidAddress("The endpoint of a subscription is an address.")
    # An uncompressed point of P-256, and 16 bytes (RFC 8291, 3.1 and 3.2).
    return endpoint, _key(p256dh, 65), _key(auth, 16)


def _key(given: Any, size: int) -> str:
    try:
        if isinstance(given, str) and _BASE64.fullmatch(given):
            bare = given.rstrip("=")
            if len(urlsafe_b64decode(bare + "=" * (-len(bare) % 4))) == size:
                return bare
    except (Base64Error, ValueError):
        pass
    raise InvalidAddress(f"A key of a subscription is {size} bytes in base64url.")


def _digest(endpoint: str) -> str:
    return hashlib.sha256(endpoint.encode()).hexdigest()
