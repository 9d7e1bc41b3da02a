"""A storm of receipts over HTTP: doubled, out of order, too early, forged and replayed.

Messages arrive, are read, bounce, are complained about, fail for good or go again; some are still
in a worker's hands when the first of it is told, of some nobody knows whether they were taken. The
database itself writes down every move that is made.
"""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from django.db import connection
from django.db.models.functions import Now
from django.test import override_settings
from pytest_django.live_server_helper import LiveServer

from notifications import outbox, receipts
from notifications.models import Attempt, DeadLetter, Notification, Receipt, State
from notifications.models.work import TRANSITIONS
from notifications.outbox import Settlement
from notifications.testing import twilio_server, whatsapp_server
from notifications.testing.sendgrid_events import SendGridEvents, make_event
from notifications.testing.whatsapp_server import Accepted, WhatsAppServer

pytestmark = [pytest.mark.django_db(transaction=True)]

SECRET, TOKEN = "app-secret-only-for-tests", "auth-token-only-for-tests"
PROVIDERS = {"email": "sendgrid", "whatsapp": "whatsapp_cloud", "sms": "twilio"}
BATCH = 10  # SendGrid's events of one POST
SENDERS = 4
AT_ONCE = 5  # messages that a worker settles together


@dataclass(frozen=True)
class Story:
    """What is told of one message, in whatever order it comes, and where that leads."""

    end: State
    told: tuple[str, ...]  # names of a provider's, with an error's code where there is one


STORIES = {
    "email": (
        Story(State.READ, ("processed", "delivered", "open")),
        Story(State.BOUNCED, ("processed", "deferred", "bounce")),
        Story(State.BOUNCED, ("processed", "delivered", "bounce")),
        Story(State.READ, ("processed", "bounce", "open")),
        Story(State.COMPLAINED, ("processed", "delivered", "open", "spamreport")),
        Story(State.DEAD, ("deferred", "dropped")),
    ),
    "whatsapp": (
        Story(State.READ, ("sent", "delivered", "read")),
        Story(State.DEAD, ("sent", "failed 131026")),
        Story(State.PENDING, ("sent", "failed 131049")),  # it goes again tomorrow
        Story(State.DELIVERED, ("sent", "failed 131026", "delivered")),
    ),
    "sms": (
        Story(State.DELIVERED, ("sent", "delivered")),
        Story(State.DEAD, ("sent", "undelivered 30005")),
        Story(State.PENDING, ("sent", "undelivered 30003")),
        Story(State.DELIVERED, ("sent", "undelivered 30003", "delivered")),
    ),
}
BEGINNINGS = (
    State.SENT,  # its attempt is settled
    State.PENDING,  # a worker has it in hand
    State.UNKNOWN,  # the answer to its attempt was lost
)

# All that receipts and workers may do; people do nothing here.
MOVES = {
    (old, new)
    for old, moves in TRANSITIONS.items()
    for new, why in moves.items()
    if why != "retried by a person"
}

WATCH = {
    "sqlite": """
        CREATE TABLE storm_move (id integer PRIMARY KEY, message bigint, old text, new text);
        CREATE TRIGGER storm_moved AFTER UPDATE OF state ON notifications_notification
        WHEN OLD.state <> NEW.state BEGIN
            INSERT INTO storm_move (message, old, new) VALUES (NEW.id, OLD.state, NEW.state);
        END;
    """,
    "postgresql": """
        CREATE TABLE storm_move (id bigserial PRIMARY KEY, message bigint, old text, new text);
        CREATE FUNCTION storm_moved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO storm_move (message, old, new) VALUES (NEW.id, OLD.state, NEW.state);
            RETURN NULL;
        END $$;
        CREATE TRIGGER storm_moved AFTER UPDATE OF state ON notifications_notification
        FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION storm_moved();
    """,
}
UNWATCH = {
    "sqlite": "DROP TRIGGER storm_moved; DROP TABLE storm_move;",
    "postgresql": "DROP FUNCTION storm_moved CASCADE; DROP TABLE storm_move;",
}


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
        self.rows: list[Notification] = []
        self.stories: list[Story] = []
        for place, channel in zip(range(count), list(PROVIDERS) * count, strict=False):
            cases = list(product(STORIES[channel], BEGINNINGS))
            story, beginning = cases[place // len(PROVIDERS) % len(cases)]
            self.stories.append(story)
            self.rows.append(
                Notification(
                    kind="k",
                    channel=channel,
                    queue=channel,
                    to=f"{place}@example.com",
                    state=beginning,
                    attempts=int(beginning != State.PENDING),
                )
            )
        Notification.objects.bulk_create(self.rows)
        self.ids = {row.pk: f"id-{uuid.uuid4().hex}" for row in self.rows}
        Attempt.objects.bulk_create(
            self._attempt(row, lost=row.state == State.UNKNOWN)
            for row in self.rows
            if row.state != State.PENDING
        )
        self.in_hand: list[Notification] = []
        self.reports = 0

    def _attempt(self, row: Notification, *, lost: bool = False) -> Attempt:
        return Attempt(
            notification=row,
            number=1,
            provider=PROVIDERS[row.channel],
            outcome="unknown" if lost else "accepted",
            message_id="" if lost else self.ids[row.pk],
        )

    def begin(self) -> None:
        """A worker takes what waits, and hands it over."""
        for queue in PROVIDERS:
            claimed = outbox.claim(Notification, queue, len(self.rows))
            self.in_hand += outbox.start(claimed)
        self.dice.shuffle(self.in_hand)

    def settle(self, count: int) -> None:
        """The worker writes that so many were accepted."""
        ended, self.in_hand = self.in_hand[:count], self.in_hand[count:]
        settled = outbox.settle(
            [Settlement(row, State.SENT) for row in ended], [self._attempt(row) for row in ended]
        )
        assert settled == len(ended)

    def told(self, channel: str) -> Iterator[tuple[Notification, str, int]]:
        """The messages of a channel, each with everything that is told of it, and its code."""
        for row, story in zip(self.rows, self.stories, strict=True):
            for what in story.told if row.channel == channel else ():
                name, _blank, code = what.partition(" ")
                self.reports += 1
                yield row, name, int(code or 0)

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
            make_event(
                {"personalizations": [{"to": [{"email": row.to}]}]},
                name,
                anymail_id=self.ids[row.pk],
                notification_id=str(row.pk),
                **({"reason": "Spam Content"} if name == "dropped" else {}),
            )
            for row, name, _code in self.told("email")
        ]
        self.dice.shuffle(events)
        for start in range(0, len(events), BATCH):
            body = json.dumps(events[start : start + BATCH]).encode()
            yield Post("sendgrid", body, self.events.sign(body))

    def _whatsapp(self) -> Iterator[Post]:
        for row, status, code in self.told("whatsapp"):
            message = Accepted(self.ids[row.pk], "+12025550123", "t", "en", "", (), str(row.pk))
            errors = [{"code": code, "title": "no"}] if code else []
            told = self.whatsapp.describe_status(message, status, errors=errors)
            body = json.dumps(told).encode()
            headers = {"X-Hub-Signature-256": whatsapp_server.sign(SECRET, body)}
            yield Post("whatsapp_cloud", body, headers)

    def _twilio(self) -> Iterator[Post]:
        for row, status, code in self.told("sms"):
            fields = {"MessageSid": self.ids[row.pk], "MessageStatus": status}
            if code:
                fields["ErrorCode"] = str(code)
            query = f"?notification={row.pk}"
            signed = f"{self.url}/notifications/webhooks/twilio/{query}"
            headers = {
                "Content-Type": "application/x-www-form-urlencoded",
                "X-Twilio-Signature": twilio_server.sign(TOKEN, signed, fields),
            }
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


Moves = list[tuple[int, State, State]]  # a message, and from where to where


@pytest.fixture
def moves(transactional_db: None) -> Iterator[Callable[[], Moves]]:
    """Tells every move that was committed so far, in their order."""

    def run(script: str) -> None:
        statements = [script] if connection.vendor == "postgresql" else _split(script)
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def read() -> Moves:
        with connection.cursor() as cursor:
            cursor.execute("SELECT message, old, new FROM storm_move ORDER BY id")
            return [(message, State(old), State(new)) for message, old, new in cursor.fetchall()]

    run(WATCH[connection.vendor])
    yield read
    run(UNWATCH[connection.vendor])


def _split(script: str) -> list[str]:
    """SQLite takes one statement at a time."""
    statements, text = [], ""
    for part in script.split(";"):
        text += f"{part};"
        if sqlite3.complete_statement(text) and part.strip():
            statements.append(text)
            text = ""
    return statements


def backwards(moves: Moves) -> Moves:
    """Moves that do not exist, and those to where a message had come before."""
    wrong, visited = [], set()
    for message, old, new in moves:
        if (old, new) not in MOVES or (message, new) in visited:
            wrong.append((message, old, new))
        visited.add((message, new))
    return wrong


@pytest.mark.parametrize(
    "count", [60, pytest.param(1876, marks=pytest.mark.faults)], ids=["short", "full"]
)
def test_a_storm_moves_every_message_once_and_none_back(
    live_server: LiveServer, count: int, moves: Callable[[], Moves]
) -> None:
    storm = Storm(live_server.url, count)
    with override_settings(NOTIFICATIONS=storm.settings()):
        storm.begin()
        late = len(storm.in_hand) // 2  # so many are settled when all has been told of them
        posts = storm.posts()
        everything = [*posts, *posts, *(storm.forge(each) for each in posts[::5])]
        storm.dice.shuffle(everything)
        done = threading.Event()
        answers: list[Counter[tuple[bool, int]]] = []

        def blow() -> None:
            answers.append(send(live_server.url, everything))
            done.set()

        began = time.monotonic()
        thread = threading.Thread(target=blow)
        thread.start()
        while not done.wait(0.2):
            storm.settle(min(AT_ONCE, len(storm.in_hand) - late))
        thread.join()
        seconds = time.monotonic() - began
        forged = sum(not each.genuine for each in everything)
        assert answers == [Counter({(True, 200): len(posts) * 2, (False, 403): forged})]
        early = {row.pk for row in storm.in_hand}
        assert early
        assert not [move for move in moves() if move[0] in early], "a worker has them in hand"
        storm.settle(len(storm.in_hand))
        while Receipt.objects.filter(applied=False).update(look_at=Now()):
            assert receipts.sweep().applied
        settled = moves()
        assert send(live_server.url, posts) == Counter({(True, 200): len(posts)})  # replayed
        assert moves() == settled
    told = storm.reports * 3
    print(
        f"\n{told} receipts of {count} messages ({storm.reports} of them new) and {forged} forged "
        f"calls, in {seconds:.1f} s; {len(settled)} moves, {len(backwards(settled))} of them "
        f"backwards; all was told of {len(early)} messages before they were settled"
    )
    assert backwards(settled) == []
    assert Receipt.objects.count() == storm.reports
    ends = {row.pk: story.end for row, story in zip(storm.rows, storm.stories, strict=True)}
    assert dict(Notification.objects.values_list("pk", "state")) == ends
    given_up = DeadLetter.objects.order_by("pk").values_list("notification", flat=True)
    assert sorted(given_up) == [pk for pk, end in ends.items() if end is State.DEAD]


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
