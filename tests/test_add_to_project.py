"""The pages that newcomers follow are followed to the letter, in an empty folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from notifications.testing.http_server import Answer, HttpServer, Reply, Request
from notifications.testing.smtp_server import SmtpServer
from tests.pages import Project, block, install
from tests.servers import RedisServer

pytestmark = pytest.mark.sqlite_only  # it brings its own database

USE = """
from django.contrib.auth.models import User
from django.db import transaction
from shop.models import Order
ann = User.objects.create_user("ann", email="ann@example.com")
with transaction.atomic():
    Order.objects.create(number="A-1001", customer=ann)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed, as a user would: from its wheel."""
    return install(tmp_path_factory.mktemp("package"))


class JsonServer(HttpServer[Answer]):
    """A service that keeps what is posted to it."""

    def respond(self, request: Request) -> Reply:
        """201 to whoever has the key."""
        if request.headers.get("Authorization") != "Bearer the-key":
            return Reply(401, {"error": "who are you?"})
        return Reply(201, {"id": "tm-1"})

    @property
    def posted(self) -> list[Any]:
        """The JSON of each request."""
        return [request.payload for request in self.requests]


def test_who_follows_the_page_gets_a_mail(
    tmp_path: Path, site: Path, redis_server: RedisServer, redis: Redis
) -> None:
    with SmtpServer() as inbox:
        shop = Project(
            tmp_path, {"REDIS_URL": redis_server.url, "SMTP_PORT": str(inbox.port)}, site=site
        )
        shop.run("check")
        shop.migrate()
        shop.run("shell", "-v0", "-c", USE)
        shop.run("rqworker", "--burst")
        [mail] = inbox.wait_for(1)
    assert mail.message["Subject"] == "Your order A-1001"
    assert mail.message["To"] == "ann@example.com"


def test_a_provider_written_from_the_page_sends(
    tmp_path: Path, site: Path, redis_server: RedisServer, redis: Redis
) -> None:
    with JsonServer() as service:
        environment = {
            "REDIS_URL": redis_server.url,
            "TEXTMASTER_URL": f"{service.origin}/messages",
            "TEXTMASTER_KEY": "the-key",
        }
        shop = Project(
            tmp_path, environment, site=site, settings=block("adding.md", "A provider", 1)
        )
        shop.write("shop/textmaster.py", block("adding.md", "A provider"))
        shop.run("check", "--fail-level", "ERROR")
        shop.migrate()
        words = ["notifications_test", "--channel", "sms", "--to", "+12025550123", "--here"]
        told = json.loads(shop.run(*words, "--json"))
        [posted] = service.posted
    assert posted["to"] == "+12025550123"
    assert posted["text"].startswith("Test message from shop.example.com")
    assert told["state"] == "sent"
    assert told["attempts"][0]["provider"] == "textmaster"
    assert told["attempts"][0]["message_id"] == "tm-1"


@pytest.mark.parametrize(
    ("answer", "outcome", "state"),
    [
        (
            Answer(status=422, message="no 'message from shop.example.com' to +12025550123"),
            "permanent",
            "dead",
        ),
        (Answer(status=500), "unknown", "dead"),
        (Answer(status=401), "hold", "pending"),
        (Answer(then="close"), "unknown", "dead"),
    ],
)
def test_what_the_pages_provider_says_decides_what_follows(
    tmp_path: Path, site: Path, redis_server: RedisServer, redis: Redis, answer: Answer,
    outcome: str, state: str,
) -> None:  # fmt: skip
    class Service(JsonServer):
        def put(self, answer: Answer) -> Reply:
            return Reply(answer.status, {"error": answer.message})

    with Service(answers=[answer]) as service:
        environment = {
            "REDIS_URL": redis_server.url,
            "TEXTMASTER_URL": service.origin,
            "TEXTMASTER_KEY": "the-key",
        }
        shop = Project(
            tmp_path, environment, site=site, settings=block("adding.md", "A provider", 1)
        )
        shop.write("shop/textmaster.py", block("adding.md", "A provider"))
        shop.migrate()
        script = (
            "from django.core.management import call_command\n"
            "from notifications.models import *\n"
            "try:\n"
            "    call_command('notifications_test', channel='sms', to='+12025550123', here=True,"
            " seconds=1.0, json=True)\n"
            "except BaseException: pass\n"
            "row = Notification.objects.get()\n"
            "attempt = row.attempt_set.get()\n"
            "print('\\n' + attempt.text)\n"
            "print(row.state + ' ' + attempt.outcome)\n"
        )
        *_rest, text, last = shop.run("shell", "-v0", "-c", script).splitlines()
        assert last == f"{state} {outcome}"
        assert not re.search("message from|2025550123", text)


CHAT_SERVER = """
from notifications.message import Outcome, Verdict
from notifications.providers.base import Provider, Session
import requests

class ChatServer(Provider):
    channels = ("chat",)

    def connect(self):
        return ChatSession(self)

class ChatSession(Session):
    def __init__(self, provider):
        self.url = provider.options["URL"]

    def send(self, message):
        body = {"room": message.to, "text": message.text}
        headers = {"Authorization": "Bearer the-key"}
        requests.post(self.url, json=body, headers=headers, timeout=5).raise_for_status()
        return Outcome(Verdict.ACCEPTED)
"""
CHAT_KIND = """
from notifications.kinds import Kind

class StaffNews(Kind):
    name = "staff_news"
    channels = ("chat",)
"""
CHAT_USE = """
from django.db import transaction
from notifications import operations
from notifications.dispatch import notify
from shop.news import StaffNews
with transaction.atomic():
    notify(StaffNews, to="#orders", context={"number": "A-1001"})
operations.drain("chat")
"""


def test_a_channel_written_from_the_page_carries_messages(
    tmp_path: Path, site: Path, redis_server: RedisServer, redis: Redis
) -> None:
    with JsonServer() as service:
        environment = {"REDIS_URL": redis_server.url, "CHAT_URL": service.origin}
        settings = 'NOTIFICATIONS |= {"CHANNELS": {"email": {}}, "PROVIDERS": {}}\n'
        settings += block("adding.md", "A channel", 1)
        shop = Project(tmp_path, environment, site=site, settings=settings)
        shop.write("shop/chat.py", block("adding.md", "A channel"))
        shop.write("shop/chatserver.py", CHAT_SERVER)
        shop.write("shop/news.py", CHAT_KIND)
        shop.template("chat.txt", "Order {{ number }} came in.", kind="staff_news")
        shop.run("check", "--fail-level", "ERROR")
        shop.migrate()
        shop.run("shell", "-v0", "-c", CHAT_USE)
    assert service.posted == [{"room": "#orders", "text": "Order A-1001 came in."}]


KIND_USE = """
from django.contrib.auth.models import User
from django.db import transaction
from notifications import operations, tasks
from notifications.events import publish
from notifications.models import Notification
from shop.models import Order
ann = User.objects.create_user("ann", email="ann@example.com")
order = Order(number="A-1001", customer=ann)
Order.objects.bulk_create([order])
with transaction.atomic():
    publish("parcel.sent", order_id=order.pk, phone="+12025550123")
    publish("parcel.sent", order_id=order.pk)
while tasks.run_due("default"):
    pass
operations.drain("sms")
for row in Notification.objects.order_by("pk"):
    print("row", row.channel, row.to, row.state)
"""


def test_a_kind_written_from_the_page_goes_out_on_its_channels(
    tmp_path: Path, site: Path, redis_server: RedisServer, redis: Redis
) -> None:
    with JsonServer() as service:
        environment = {
            "REDIS_URL": redis_server.url,
            "TEXTMASTER_URL": service.origin,
            "TEXTMASTER_KEY": "the-key",
        }
        settings = block("adding.md", "A provider", 1)
        shop = Project(tmp_path, environment, site=site, settings=settings)
        shop.write("shop/textmaster.py", block("adding.md", "A provider"))
        shop.write("shop/notifications.py", block("adding.md", "A kind"))
        for name in ("email.subject.txt", "email.txt", "email.html", "sms.txt"):
            shop.template(name, "Parcel {{ number }} is on its way.", kind="parcel_sent")
        shop.run("check", "--fail-level", "ERROR")
        shop.migrate()
        shown = shop.run("notifications_preview", "parcel_sent", "--channel", "sms")
        told = shop.run("shell", "-v0", "-c", KIND_USE)
    assert "Parcel A-1001 is on its way." in shown
    assert [line for line in told.splitlines() if line.startswith("row")] == [
        "row email ann@example.com pending",
        "row sms +12025550123 sent",
        "row email ann@example.com pending",
    ]
    assert [each["text"] for each in service.posted] == ["Parcel A-1001 is on its way."]


# As docs/whatsapp.md says; the fixture's account takes the place of this one.
WHATSAPP = """
NOTIFICATIONS["CHANNELS"] = {"email": {}, "whatsapp": {}}
NOTIFICATIONS["PROVIDERS"] = {
    "whatsapp_cloud": {
        "BACKEND": "notifications.providers.whatsapp_cloud.WhatsAppCloud",
        "OPTIONS": {"TOKEN": "the-token", "PHONE_ID": "106540352242922"},
    },
}
RQ_QUEUES["whatsapp"] = {"URL": "redis://localhost:6379/0"}
"""


def test_the_tests_of_the_page_pass_in_a_project_of_ones_own(
    tmp_path: Path, site: Path, redis_server: RedisServer, redis: Redis
) -> None:
    shop = Project(tmp_path, {"REDIS_URL": redis_server.url}, site=site, settings=WHATSAPP)
    shop.run("makemigrations", "shop", "-v0")
    for number, (heading, place) in enumerate(
        [("What was told to whom", 0), *(("Over real servers", place) for place in range(4))]
    ):
        shop.write(f"test_page_{number}.py", block("testing.md", heading, place))
    told = shop.python("-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider")
    assert "5 passed" in told
