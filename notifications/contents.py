"""Contents of mail without a kind, encrypted for the database.

The key comes from SECRET_KEY; after a rotation SECRET_KEY_FALLBACKS still open what is waiting.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from notifications.errors import InvalidMessage
from notifications.message import Attachment


def seal(content: Mapping[str, Any]) -> bytes:
    """`content`, which JSON can hold, compressed and encrypted."""
    plain = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return _cipher().encrypt(zlib.compress(plain, 1))


def unseal(sealed: bytes | memoryview) -> dict[str, Any]:
    """What was given to `seal`. Raises InvalidMessage when no known key opens it."""
    try:
        plain = zlib.decompress(_cipher().decrypt(bytes(sealed)))
    except InvalidToken:
        raise InvalidMessage(
            "The content cannot be opened: was SECRET_KEY changed? Put the former one into "
            "SECRET_KEY_FALLBACKS until what was queued with it has gone out."
        ) from None
    content: dict[str, Any] = json.loads(plain)
    return content


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


def write_attachment(file: Attachment) -> dict[str, str]:
    """An attachment as JSON can hold it."""
    return {
        "name": file.name,
        "content": b64encode(file.content).decode("ascii"),
        "mimetype": file.mimetype,
        "content_id": file.content_id,
    }


def read_attachment(stored: Mapping[str, str]) -> Attachment:
    """The attachment that `write_attachment` stored."""
    return Attachment(
        stored["name"],
        b64decode(stored["content"]),
        stored["mimetype"],
        stored.get("content_id", ""),
    )
