"""Contents that must be stored: sealed with a key made from SECRET_KEY."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings


def seal(content: Mapping[str, Any]) -> bytes:
    """Encrypt plain values."""
    return _keys().encrypt(json.dumps(content).encode())


def unseal(sealed: bytes | memoryview) -> dict[str, Any]:
    """What was sealed, with the present SECRET_KEY or one of SECRET_KEY_FALLBACKS.

    Raises cryptography.fernet.InvalidToken when none of them fits.
    """
    content: dict[str, Any] = json.loads(_keys().decrypt(bytes(sealed)))
    return content


def _keys() -> MultiFernet:
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet([Fernet(_derive(secret)) for secret in secrets])


def _derive(secret: str | bytes) -> bytes:
    raw = secret if isinstance(secret, bytes) else secret.encode()
    # The person string keeps this key apart from everything else made from SECRET_KEY.
    return urlsafe_b64encode(blake2b(raw, digest_size=32, person=b"ntf-contents").digest())
