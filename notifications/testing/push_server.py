"""A push service, as far as a sender sees it (RFC 8030), with browsers that can read.

    with PushServer(public_key=…) as server:
        browser = server.subscribe()        # what PushManager.subscribe() would give
        ...
        server.wait_for(1)[0].content       # {"title": …, "text": …}

It checks signature, headers and encryption as services and browsers do. It runs in threads of its
own, on loopback.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02

from notifications.testing.http_server import Answer, Reply, Request
from notifications.testing.reporter import ReportingServer

__all__ = ["Answer", "PushServer", "Received"]

LARGEST = 4096  # bytes of an encrypted message that a service must take (RFC 8030, 7.2)


@dataclass(frozen=True, slots=True)
class Received:
    """A message that a browser has read."""

    browser: str  # the end of its endpoint
    content: dict[str, Any]
    urgency: str
    ttl: int


@dataclass(frozen=True, slots=True)
class _Browser:
    key: ec.EllipticCurvePrivateKey
    auth: bytes
    public_key: str  # the site's, with which it has subscribed


class PushServer(ReportingServer[Answer, Received]):
    """Takes messages for the browsers that it has subscribed."""

    def __init__(
        self,
        *,
        port: int = 0,
        answers: Sequence[Answer] = (),
        public_key: str,
        on_message: Callable[[Received], object] | None = None,
    ) -> None:
        """`public_key` is the VAPID key that browsers subscribe with, unless `subscribe` is given
        another one; messages that are signed by a key which is not the browser's get 403."""
        super().__init__(port=port, answers=answers, on_message=on_message)
        self.public_key = public_key
        self.refusals: list[str] = []
        self._browsers: dict[str, _Browser] = {}

    def subscribe(self, public_key: str = "") -> dict[str, Any]:
        """A browser; what it tells the site."""
        name = uuid.uuid4().hex
        browser = _Browser(
            ec.generate_private_key(ec.SECP256R1()), os.urandom(16), public_key or self.public_key
        )
        self._browsers[name] = browser
        point = browser.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return {
            "endpoint": f"{self.origin}/push/{name}",
            "expirationTime": None,
            "keys": {"p256dh": _text(point), "auth": _text(browser.auth)},
        }

    def unsubscribe(self, subscription: Mapping[str, Any]) -> None:
        """The browser wants no more; messages for it get 410."""
        self._browsers.pop(str(subscription["endpoint"]).rpartition("/")[2])

    def respond(self, request: Request) -> Reply:
        """Take a message for one browser."""
        name = request.path.removeprefix("/push/")
        browser = self._browsers.get(name)
        if browser is None:
            return Reply(410, {"reason": "ExpiredSubscription"})
        refusal = self._find_refusal(request, browser)
        if refusal is not None:
            self.refusals.append(refusal[1])
            return Reply(refusal[0], {"reason": refusal[1]})
        plain = http_ece.decrypt(
            request.raw, private_key=browser.key, auth_secret=browser.auth, version="aes128gcm"
        )
        headers = request.headers
        message = Received(
            name, json.loads(plain), headers.get("Urgency", ""), int(headers.get("TTL", 0))
        )
        self.take(message, str(message.content.get("id", "")))
        return Reply(201, None, {"Location": f"{self.origin}/message/{uuid.uuid4().hex}"})

    def keep_anyway(self, request: Request, answer: Answer) -> None:
        """Take the message over."""
        self.respond(request)

    def put(self, answer: Answer) -> Reply:
        """The scripted status."""
        body = {"reason": answer.message} if answer.message else None
        return Reply(answer.status, body, answer.headers)

    def _find_refusal(self, request: Request, browser: _Browser) -> tuple[int, str] | None:
        headers = request.headers
        if headers.get("Content-Encoding") != "aes128gcm":
            return 400, "Content-Encoding"
        if not headers.get("TTL", "").isdigit():
            return 400, "TTL"
        if len(request.raw) > LARGEST:
            return 413, "PayloadTooLarge"
        return self._find_forgery(headers.get("Authorization", ""), browser)

    def _find_forgery(self, given: str, browser: _Browser) -> tuple[int, str] | None:
        """RFC 8292, 2 and 3."""
        if not given.startswith("vapid ") or not Vapid02.verify(given):
            return 401, "Unauthorized"
        parts = dict(each.split("=", 1) for each in given.removeprefix("vapid ").split(","))
        claims = json.loads(_bytes(parts["t"].split(".")[1]))
        if parts["k"] != browser.public_key:
            return 403, "VapidPkHashMismatch"
        if claims.get("aud") != self.origin or not str(claims.get("sub")).startswith("mailto:"):
            return 403, "BadJwtToken"
        if not 0 < claims.get("exp", 0) - time.time() <= 86_400:
            return 403, "ExpiredJwtToken"
        return None


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
