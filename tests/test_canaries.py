"""Keys and words of messages, followed through every channel: they are in no row and no log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone

from notifications import conf, holds, jobs, subscribing, synchronising
from notifications.channels.whatsapp import WhatsAppTemplate
from notifications.dispatch import notify
from notifications.kinds import Kind
from notifications.management.commands.notifications_vapid import make_keys
from notifications.models import DeadLetter, Notification, Task
from notifications.muting import muted
from notifications.tasks import task
from notifications.testing import (
    push_server,
    sendgrid_server,
    twilio_server,
    whatsapp_server,
)
from notifications.testing.http_server import HttpServer
from notifications.testing.push_server import PushServer
from notifications.testing.sendgrid_server import SendGridServer
from notifications.testing.twilio_server import TwilioServer
from notifications.testing.whatsapp_server import Template, WhatsAppServer
from orders.models import User
from tests.mail_templates import use_templates

pytestmark = pytest.mark.django_db(transaction=True)

WORD = "CanaryXyzzy"  # what the message says; it is made at send time and stored nowhere
PUBLIC, PRIVATE = make_keys()


class Canary(Kind):
    """A message whose words are made when it is sent."""

    name = "test_canary"
    channels = ("email", "whatsapp", "sms", "push")
    whatsapp = WhatsAppTemplate("canary", languages=("en",), body=("word",))

    @classmethod
    def prepare(cls, batch: Any) -> Any:
        return [{"word": WORD} for _row in batch]


TEMPLATES = {
    "notifications/test_canary/email.subject.txt": "About {{ word }}",
    "notifications/test_canary/email.txt": "It is {{ word }}.",
    "notifications/test_canary/email.html": "<p>It is {{ word }}.</p>",
    "notifications/test_canary/sms.txt": "It is {{ word }}.",
    "notifications/test_canary/push.txt": "About {{ word }}\nIt is {{ word }}.",
}


@dataclass
class World:
    """Every provider, as a local server."""

    servers: dict[str, HttpServer[Any]]
    secrets: list[str]
    quotes: dict[str, str]  # what services quote of a request when they refuse it
    arrived: Callable[[], list[str]]  # the words of everything that was taken

    def script(self, **answer: Any) -> None:
        """The same trouble everywhere."""
        kinds = {
            "email": sendgrid_server.Answer, "whatsapp": whatsapp_server.Answer,
            "sms": twilio_server.Answer, "push": push_server.Answer,
        }  # fmt: skip
        for channel, server in self.servers.items():
            quote = self.quotes[channel]
            texts = {
                name: value.replace("QUOTE", quote)
                for name, value in answer.items()
                if isinstance(value, str)
            }
            server.answers = [kinds[channel](**{**answer, **texts})]


@pytest.fixture
def world() -> Iterator[World]:
    providers = "notifications.providers"
    with ExitStack() as stack:
        enter = stack.enter_context
        email, sms = enter(SendGridServer(api_key="SG.CanaryKey-1")), enter(TwilioServer(
            auth_token="CanaryToken-2"))  # fmt: skip
        whatsapp = enter(
            WhatsAppServer(templates=[Template("canary", language="en", body="It is {{1}}.")],
                           token="CanaryToken-3", app_secret="CanarySecret-4")
        )  # fmt: skip
        push = enter(PushServer(public_key=PUBLIC))
        enter(use_templates(TEMPLATES))

        def provider(path: str, options: dict[str, Any]) -> dict[str, Any]:
            return {"BACKEND": f"{providers}.{path}", "OPTIONS": options}

        enter(
            override_settings(
                NOTIFICATIONS={
                    "ENVIRONMENT": "test",
                    "RECIPIENTS": "*",
                    "FROM_EMAIL": "shop@example.com",
                    "CHANNELS": {
                        "email": {"PROVIDERS": ["sendgrid"], "RATE": "", "TIMEOUT": 1.0},
                        **{
                            name: {"RATE": "", "TIMEOUT": 1.0}
                            for name in ("whatsapp", "sms", "push")
                        },
                    },
                    "PROVIDERS": {
                        "sendgrid": provider(
                            "sendgrid.SendGrid", {"api_key": email.api_key, "api_url": email.url}
                        ),
                        "whatsapp_cloud": provider(
                            "whatsapp_cloud.WhatsAppCloud", whatsapp.options
                        ),
                        "twilio": provider("twilio.Twilio", sms.options),
                        "webpush": provider(
                            "webpush.WebPush",
                            {
                                "PUBLIC_KEY": PUBLIC,
                                "PRIVATE_KEY": PRIVATE,
                                "CONTACT": "mailto:shop@example.com",
                                "HOSTS": ["127.0.0.1"],
                            },
                        ),
                    },
                    "RETRY": {"RETRIES": 1, "BASE": 0.0},
                },
                RQ_QUEUES={
                    name: {"URL": "redis://127.0.0.1:1/0"}
                    for name in ("default", "email", "whatsapp", "sms", "push")
                },
            )
        )
        holds.forget()
        with muted():
            ann = User.objects.create_user(
                "ann", email="ann@example.com", phone="+12025550123", language="en"
            )
        browser = push.subscribe()
        subscribing.subscribe(ann, browser)
        secrets = [email.api_key, sms.auth_token, whatsapp.token, whatsapp.app_secret, PRIVATE]
        yield World(
            {"email": email, "whatsapp": whatsapp, "sms": sms, "push": push},
            [WORD, *secrets, *browser["keys"].values(), browser["endpoint"].rpartition("/")[2]],
            {
                "email": f"About {WORD} It is {WORD}. {email.api_key} ann@example.com",
                "whatsapp": f"{WORD} {whatsapp.token} +12025550123",
                "sms": f"It is {WORD}. {sms.auth_token} +12025550123",
                "push": f"About {WORD} It is {WORD}. {PRIVATE} {browser['endpoint']}",
            },
            lambda: [
                str(each) for server in (email, whatsapp, sms, push) for each in server.accepted
            ],
        )
    holds.forget()


def everything_stored() -> str:
    with connection.cursor() as cursor:
        text = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            text.append(f"{table}: {cursor.fetchall()!r}")
    return "\n".join(text)


@pytest.mark.parametrize(
    ("trouble", "outcomes"),
    [
        ({}, {"accepted"}),
        # Refusals that quote the message and the key.
        ({"status": 400, "body": '{"error": {"message": "bad QUOTE"}, "message": "bad QUOTE", '
          '"code": 99, "errors": [{"message": "bad QUOTE"}], "reason": "QUOTE"}'}, None),
        ({"status": 401, "message": "who is QUOTE?"}, None),
        ({"status": 500, "body": "<h1>QUOTE</h1>"}, None),
        ({"status": 400, "headers": {"X-Odd\r\nthis is no header": "x"}}, {"unknown"}),
        ({"then": "close"}, {"unknown"}),
        ({"then": "hang", "accept": True}, {"unknown"}),
    ],
    ids=["success", "refusal", "no entry", "broken", "malformed", "cut off", "hanging"],
)  # fmt: skip
def test_no_secret_and_no_word_of_a_message_is_kept(
    world: World, trouble: dict[str, Any], outcomes: set[str] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    if trouble:
        world.script(**trouble)
    with transaction.atomic():
        rows = notify(Canary, to=User.objects.get())
    assert {row.channel for row in rows} == set(world.servers)
    for _ in range(2):
        for channel in world.servers:
            jobs.serve(channel)
    found = set(Notification.objects.values_list("attempt_set__outcome", flat=True))
    assert None not in found
    assert outcomes is None or found == outcomes
    if not trouble:
        assert sum(WORD in words for words in world.arrived()) == 4
    stored, logged = everything_stored(), caplog.text
    assert logged or not trouble
    assert [each for each in world.secrets if each in stored] == [], [
        line for line in stored.splitlines() if WORD in line
    ]
    assert [each for each in world.secrets if each in logged] == []


def test_what_providers_are_asked_for_is_not_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    email, sms = world.servers["email"], world.servers["sms"]
    assert isinstance(email, SendGridServer)
    email.suppressed = {"bounces": ["eve@example.com"]}
    now = timezone.now()
    assert synchronising.synchronise(conf.provider("sendgrid"))["suppressions"] == 1
    assert conf.provider("twilio").look_up("+12025550123", now, now) == []
    assert (len(email.requests), len(sms.requests)) == (4, 1)
    private = [*world.secrets, "eve@example.com", "2025550123"]
    assert [each for each in private if each in caplog.text] == []


# -- errors of our own -----------------------------------------------------------------------------


class Forgetful(Kind):
    """A secret message whose making fails, with `WORD` in its hands."""

    name = "test_forgetful"
    channels = ("email",)
    secret = True

    @classmethod
    def prepare(cls, batch: Any) -> Any:
        made = [{"word": WORD, "person": f"{WORD} Smith"} for _row in batch]
        if any(row.context.get("fail") for row in batch):
            raise ValueError(f"{made} is not good")
        return made


FAULTS = {
    "a variable that is not there": "{{ person|default:nickname }}",
    "an address that leads nowhere": "{% url word %}",
}


@pytest.mark.parametrize("text", FAULTS.values(), ids=FAULTS)
def test_a_template_that_fails_says_nothing_of_what_it_was_given(
    world: World, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="notifications")
    subject = {"notifications/test_forgetful/email.subject.txt": "x"}
    with use_templates({**subject, "notifications/test_forgetful/email.txt": text}):
        send_in_vain({"fail": False})
    assert WORD not in everything_stored() + caplog.text
    assert "cannot compose" in caplog.text


def test_a_secret_that_is_made_in_vain_is_told_to_nobody(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="notifications")
    send_in_vain({"fail": True})
    assert WORD not in everything_stored() + caplog.text
    assert DeadLetter.objects.get().error == "ValueError"


def send_in_vain(context: dict[str, Any]) -> None:
    with transaction.atomic():
        notify(Forgetful, to=User.objects.get(), context=context)
    for _ in range(2):
        jobs.serve("email")
    assert DeadLetter.objects.get().notification is not None


@task(name="test.quote")
def quote(word: str, numbers: list[int]) -> None:
    raise KeyError(f"{word} and {numbers[0]}")


@task(name="test.break_a_constraint")
def break_a_constraint() -> None:
    User.objects.create(username=WORD, email=f"{WORD}@example.com", is_active=None)


@pytest.mark.parametrize("breaks", ["what it quotes", "a constraint"])
def test_a_task_that_fails_says_nothing_of_what_it_was_given(
    world: World, breaks: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="notifications")
    with transaction.atomic():
        if breaks == "a constraint":
            break_a_constraint.enqueue()
        else:
            quote.enqueue(word=WORD, numbers=[48151623])
    for _ in range(2):
        jobs.serve("default")
    letter = DeadLetter.objects.get()
    assert letter.error in ("KeyError", "IntegrityError")
    Task.objects.update(payload={})  # the one place that holds it
    kept = everything_stored() + caplog.text
    assert (WORD in kept, "48151623" in kept) == (False, False)
