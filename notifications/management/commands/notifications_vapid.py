"""Make the pair of keys by which push services know a site."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Prints them; nothing is stored."""

    help = "Makes a VAPID key pair (RFC 8292) for web push and prints it. Keep the private one."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """As lines of an .env file."""
        public, private = make_keys()
        self.stdout.write(f"VAPID_PUBLIC_KEY={public}\nVAPID_PRIVATE_KEY={private}")


def make_keys() -> tuple[str, str]:
    """A public and a private key, as browsers and py_vapid read them."""
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    secret = key.private_numbers().private_value.to_bytes(32, "big")
    return _text(point), _text(secret)


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")
