"""Tokens of the REST API: made, found, revoked."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db import router, transaction
from django.db.models import Q
from django.db.models.functions import Now

from notifications.audit import ADDITION, DELETION, Person, audit
from notifications.models import ApiToken

PREFIX = "ntf_"  # so that scanners for leaked secrets can tell what it is
SEEN_EVERY = timedelta(minutes=1)  # `used_at` is no more exact than this


def make_token(
    user: AbstractBaseUser, *, name: str, lasts: timedelta | None = None, by: Person = None
) -> tuple[ApiToken, str]:
    """A new token that acts for `user`, and what it is: 256 random bits, never to be seen again."""
    token = PREFIX + secrets.token_urlsafe(32)
    with transaction.atomic(using=router.db_for_write(ApiToken)):
        row = ApiToken.objects.create(
            name=name,
            user_id=user.pk,
            digest=_digest(token),
            expires_at=None if lasts is None else Now() + lasts,
        )
        audit(by, row, ADDITION, "Made.")
    row.refresh_from_db()
    return row, token


def revoke_token(row: ApiToken, *, by: Person = None) -> None:
    """Let it open nothing any more."""
    with transaction.atomic(using=router.db_for_write(ApiToken)):
        audit(by, row, DELETION, "Revoked.")
        row.delete()


def find_token(token: str) -> ApiToken | None:
    """The row of a token that still holds, with its `user`; it is marked as used."""
    still = Q(expires_at=None) | Q(expires_at__gt=Now())
    row = ApiToken.objects.select_related("user").filter(still, digest=_digest(token)).first()
    if row is not None:
        long_ago = Q(used_at=None) | Q(used_at__lt=Now() - SEEN_EVERY)
        ApiToken.objects.filter(long_ago, pk=row.pk).update(used_at=Now())
    return row


def _digest(token: str) -> str:
    # Nobody can guess 256 random bits: no salt and no slow hash is needed.
    return hashlib.sha256(token.encode()).hexdigest()
