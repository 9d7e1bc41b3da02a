"""A storm of receipts over HTTP: doubled, out of order, forged and replayed."""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from django.test import override_settings
from pytest_django.live_server_helper import LiveServer

from notifications import receipts
from notifications.models import Attempt, Notification, Receipt, State
from notifications.testing import twilio_server, whatsapp_server
from notifications.testing.sendgrid_events import SendGridEvents
from notifications.testing.whatsapp_server import Accepted, WhatsAppServer

pytestmark = [pytest.mark.django_db(transaction=True)]

SECRET, TOKEN = "app-secret-only-for-tests", "auth-token-only-for-tests"
PROVIDERS = {"email": "sendgrid", "whatsapp": "whatsapp_cloud", "sms": "twilio"}
ENDS = {"email": State.READ, "whatsapp": State.READ, "sms": State.DELIVERED}
RANK = {State.SENT: 0, State.DELIVERED: 1, State.READ: 2}
BATCH = 10  # SendGrid's events of one POST
SENDERS = 4


@dataclass(frozen=True)
class Post:
    """One request of a provider."""

    provider: str
    body: bytes
    headers: dict[str, str]
    query: str = ""
    genuine: bool = True


class Storm:
    """Sent messages, and all that their providers tell of them."""

    def __init__(self, url: str, count: int) -> None:
        self.url = url
        self.dice = random.Random(18)
        self.events = SendGridEvents(f"{url}/")
        self.whatsapp = WhatsAppServer()
        self.rows = [
            Notification(
                kind="k", channel=channel, queue=channel, to=f"{place}@example.com",
                state=State.SENT, attempts=1,
            )
            for place, channel in zip(range(count), list(PROVIDERS) * count, strict=False)
        ]  # fmt: skip
        Notification.objects.bulk_create(self.rows)
        self.ids = {row.pk: f"id-{uuid.uuid4().hex}" for row in self.rows}
        Attempt.objects.bulk_create(
            Attempt(
                notification=row,
                number=1,
                provider=PROVIDERS[row.channel],
                outcome="accepted",
                message_id=self.ids[row.pk],
            )
            for row in self.rows
        )
        self.reports = 0

    def settings(self, **secrets: str) -> dict[str, Any]:
        def provider(name: str, **options: str) -> dict[str, Any]:
            return {"BACKEND": f"notifications.providers.{name}", "OPTIONS": options}

        given = {"webhook_key": self.events.verification_key, "APP_SECRET": SECRET,
                 "AUTH_TOKEN": TOKEN, **secrets}  # fmt: skip
        return {
            "ENVIRONMENT": "test",
            "CHANNELS": {"email": {"PROVIDERS": ["sendgrid"]}, "whatsapp": {}, "sms": {}},
            "PROVIDERS": {
                "sendgrid": provider(
                    "sendgrid.SendGrid", api_key="x", webhook_key=given["webhook_key"]
                ),
                "whatsapp_cloud": provider(
                    "whatsapp_cloud.WhatsAppCloud", APP_SECRET=given["APP_SECRET"],
                    PHONE_ID=self.whatsapp.phone_id,
                ),
                "twilio": provider(
                    "twilio.Twilio", AUTH_TOKEN=given["AUTH_TOKEN"],
                    CALLBACK_URL=f"{self.url}/notifications/webhooks/twilio/",
                ),
            },
        }  # fmt: skip

    def posts(self) -> list[Post]:
        """Everything once, shuffled."""
        found = [*self._sendgrid(), *self._whatsapp(), *self._twilio()]
        self.dice.shuffle(found)
        return found

    def forge(self, post: Post) -> Post:
        """The same with news that its provider never signed."""
        body = post.body.replace(b"delivered", b"failed").replace(b"read", b"sent") + b" "
        return Post(post.provider, body, post.headers, post.query, genuine=False)

    def _sendgrid(self) -> Iterator[Post]:
        events = [
            {
                "event": name,
                "email": row.to,
                "timestamp": int(time.time()),
                "sg_event_id": b64encode(uuid.uuid4().bytes).decode(),
                "anymail_id": self.ids[row.pk],
                "notification_id": str(row.pk),
            }
            for row in self.rows
            for name in ("processed", "delivered", "open")
            if row.channel == "email"
        ]
        self.dice.shuffle(events)
        self.reports += len(events)
        for start in range(0, len(events), BATCH):
            body = json.dumps(events[start : start + BATCH]).encode()
            yield Post("sendgrid", body, self.events.sign(body))

    def _whatsapp(self) -> Iterator[Post]:
        for row in self.rows:
            for status in ("sent", "delivered", "read"):
                if row.channel == "whatsapp":
                    message = Accepted(
                        self.ids[row.pk], "+12025550123", "t", "en", "", (), str(row.pk)
                    )
                    body = json.dumps(self.whatsapp.describe_status(message, status)).encode()
                    headers = {"X-Hub-Signature-256": whatsapp_server.sign(SECRET, body)}
                    self.reports += 1
                    yield Post("whatsapp_cloud", body, headers)

    def _twilio(self) -> Iterator[Post]:
        for row in self.rows:
            for status in ("sent", "delivered"):
                if row.channel == "sms":
                    fields = {"MessageSid": self.ids[row.pk], "MessageStatus": status}
                    query = f"?notification={row.pk}"
                    signed = f"{self.url}/notifications/webhooks/twilio/{query}"
                    headers = {
                        "Content-Type": "application/x-www-form-urlencoded",
                        "X-Twilio-Signature": twilio_server.sign(TOKEN, signed, fields),
                    }
                    self.reports += 1
                    yield Post("twilio", urlencode(fields).encode(), headers, query)


def send(url: str, posts: list[Post]) -> Counter[tuple[bool, int]]:
    """Bring them side by side; how often each status answered the genuine and the forged. What is
    answered with 5xx is brought again, as providers do."""
    local = threading.local()

    def bring(post: Post) -> tuple[bool, int]:
        if not hasattr(local, "web"):
            local.web = requests.Session()
        address = f"{url}/notifications/webhooks/{post.provider}/{post.query}"
        for _ in range(20):
            status = local.web.post(
                address, data=post.body, headers=post.headers, timeout=30
            ).status_code
            if status != 503:
                break
            time.sleep(0.05)
        return post.genuine, status

    with ThreadPoolExecutor(SENDERS) as threads:
        return Counter(threads.map(bring, posts))


def look() -> dict[int, int]:
    """How far each message is."""
    return {
        pk: RANK.get(State(state), -1)
        for pk, state in Notification.objects.values_list("pk", "state")
    }


@pytest.mark.parametrize(
    "count", [60, pytest.param(1876, marks=pytest.mark.faults)], ids=["short", "full"]
)
def test_a_storm_moves_every_message_once_and_none_back(
    live_server: LiveServer, count: int
) -> None:
    storm = Storm(live_server.url, count)
    with override_settings(NOTIFICATIONS=storm.settings()):
        posts = storm.posts()
        everything = [*posts, *posts, *(storm.forge(each) for each in posts[::5])]
        storm.dice.shuffle(everything)
        before, backwards, done = look(), 0, threading.Event()
        answers: list[Counter[tuple[bool, int]]] = []

        def blow() -> None:
            answers.append(send(live_server.url, everything))
            done.set()

        began = time.monotonic()
        thread = threading.Thread(target=blow)
        thread.start()
        while not done.wait(0.2):
            now = look()
            backwards += sum(now[pk] < rank for pk, rank in before.items())
            before = now
        thread.join()
        seconds = time.monotonic() - began
        forged = sum(not each.genuine for each in everything)
        assert answers == [Counter({(True, 200): len(posts) * 2, (False, 403): forged})]
        while receipts.sweep().applied:
            pass
        settled = look()
        assert send(live_server.url, posts) == Counter({(True, 200): len(posts)})  # replayed
        assert look() == settled
    told = storm.reports * 3
    print(
        f"\n{told} receipts of {count} messages ({storm.reports} of them new) and {forged} forged "
        f"calls, in {seconds:.1f} s; {backwards} went backwards"
    )
    assert backwards == 0
    assert Receipt.objects.count() == storm.reports
    wrong = [row for row in Notification.objects.all() if row.state != ENDS[row.channel]]
    assert wrong == []


def test_without_its_secret_a_provider_is_told_to_come_again(live_server: LiveServer) -> None:
    storm = Storm(live_server.url, 6)
    with override_settings(
        NOTIFICATIONS=storm.settings(webhook_key="", APP_SECRET="", AUTH_TOKEN="")
    ):
        first = {each.provider: each for each in storm.posts()}
        statuses = {
            name: requests.post(
                f"{live_server.url}/notifications/webhooks/{name}/{post.query}",
                data=post.body, headers=post.headers, timeout=30,
            ).status_code
            for name, post in first.items()
        }  # fmt: skip
    assert statuses == dict.fromkeys(PROVIDERS.values(), 503)
    assert not Receipt.objects.exists()
