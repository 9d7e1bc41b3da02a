"""Encryption of what the database must keep for a while. Loaded by `contents`, when it is needed.

The key comes from SECRET_KEY; after a rotation SECRET_KEY_FALLBACKS still open what is waiting.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from notifications.errors import InvalidMessage


def seal(plain: bytes) -> bytes:
    """`plain`, encrypted and signed."""
    return _cipher().encrypt(plain)


def unseal(sealed: bytes) -> bytes:
    """What was given to `seal`. Raises InvalidMessage when no known key opens it."""
    try:
        return _cipher().decrypt(sealed)
    except InvalidToken:
        raise InvalidMessage(
            "The content cannot be opened: was SECRET_KEY changed? Put the former one into "
            "SECRET_KEY_FALLBACKS until what was queued with it has gone out."
        ) from None


def _cipher() -> MultiFernet:
    return _cipher_of((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@lru_cache(maxsize=4)
def _cipher_of(secrets: tuple[str | bytes, ...]) -> MultiFernet:
    return MultiFernet([Fernet(_key(secret)) for secret in secrets])


def _key(secret: str | bytes) -> bytes:
    # A key of its own for this purpose: what signs cookies encrypts no mail (RFC 5869 §3.2).
    derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"notifications.contents")
    return urlsafe_b64encode(
        derive.derive(secret if isinstance(secret, bytes) else secret.encode())
    )
