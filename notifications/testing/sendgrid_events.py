"""SendGrid's Event Webhook, as far as a receiver sees it: signed batches, sent until accepted.

    with SendGridEvents(url, then=("processed", "delivered")) as events:
        ...                                     # webhook_key=events.verification_key
        with SendGridServer(events=events) as server: ...

Each accepted mail's events are posted in batches a moment later. `make` and `post` send any other:

    events.post([make_event(server.accepted[0], "bounce")])

Fields are those of the "Event Webhook Reference" on https://www.twilio.com/docs/sendgrid.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import uuid
from base64 import b64encode
from collections.abc import Mapping, Sequence
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

LARGEST_BATCH = 1000  # events of one POST
TRIES = 20  # of one batch; SendGrid itself goes on for 24 hours
TIMEOUT = 10.0  # seconds of one POST

_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "deferred": {"response": "400 try again later", "attempt": "5"},
    "delivered": {"response": "250 OK"},
    "open": {"useragent": "Mozilla/5.0", "ip": "192.0.2.1", "sg_machine_open": False},
    "click": {"useragent": "Mozilla/5.0", "ip": "192.0.2.1", "url": "https://example.com/"},
    "bounce": {"type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 no such user"},
    "dropped": {"status": "5.0.0", "reason": "Bounced Address"},
}


def make_event(mail: Mapping[str, Any], name: str, **fields: Any) -> dict[str, Any]:
    """The event `name` of a mail as the API took it; `fields` change and add some."""
    to = mail["personalizations"][0]
    return {
        "email": to["to"][0]["email"],
        "timestamp": int(time.time()),
        "smtp-id": f"<{uuid.uuid4().hex[:22]}@geopod-ismtpd-1>",
        "event": name,
        "category": list(mail.get("categories", ())),
        "sg_event_id": b64encode(uuid.uuid4().bytes).decode(),
        "sg_message_id": f"{uuid.uuid4().hex[:22]}.recvd-0.0",
        **mail.get("custom_args", {}),
        **to.get("custom_args", {}),
        **_FIELDS.get(name, {}),
        **fields,
    }


class SendGridEvents:
    """Posts signed events to `url`, from a thread of its own."""

    def __init__(self, url: str, *, then: Sequence[str] = (), delay: float = 0.0) -> None:
        """`then` are the events of every accepted mail, posted `delay` seconds after it."""
        self.url = url
        self.then = tuple(then)
        self.delay = delay
        self.answers: list[int] = []  # the status of each POST
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._waiting: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def verification_key(self) -> str:
        """The public key, as SendGrid's settings page shows it."""
        public = self._key.public_key()
        return b64encode(
            public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).decode()

    def sign(self, body: bytes, *, at: float | None = None) -> dict[str, str]:
        """The headers of a POST of `body`, signed now or `at` a Unix time."""
        moment = str(int(time.time() if at is None else at))
        signature = self._key.sign(moment.encode() + body, ec.ECDSA(SHA256()))
        return {
            "Content-Type": "application/json",
            "X-Twilio-Email-Event-Webhook-Signature": b64encode(signature).decode(),
            "X-Twilio-Email-Event-Webhook-Timestamp": moment,
        }

    def accept(self, mail: Mapping[str, Any]) -> None:
        """Post the events of a mail that was just taken over."""
        for name in self.then:
            self._waiting.put(make_event(mail, name))

    def post(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Post one batch once; the status of the answer. Raises OSError."""
        body = json.dumps(events, separators=(",", ":")).encode()
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)
        try:
            connection.request("POST", parts.path, body, self.sign(body))
            status = connection.getresponse().status
        finally:
            connection.close()
        self.answers.append(status)
        return status

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="sendgrid-events", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._thread is not None
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            batch = self._collect()
            for number in range(TRIES if batch else 0):
                if self._accepted(batch) or self._stopping.wait(0.1 * (number + 1)):
                    break

    def _collect(self) -> list[dict[str, Any]]:
        """What has come in a moment, after the delay."""
        try:
            batch = [self._waiting.get(timeout=0.1)]
        except Empty:
            return []
        self._stopping.wait(self.delay)
        while len(batch) < LARGEST_BATCH and not self._waiting.empty():
            batch.append(self._waiting.get())
        return batch

    def _accepted(self, batch: Sequence[Mapping[str, Any]]) -> bool:
        try:
            return 200 <= self.post(batch) < 300
        except OSError:
            return False
