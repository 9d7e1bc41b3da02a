"""Keys, tokens, passwords, contents and phone numbers, through success, failure and silence on
every channel: none of them stays in a log line, a row, an error, a dead letter or Redis.

The servers are gossips: they answer with all that they were told.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings
from redis import Redis

from notifications import holds, jobs
from notifications.channels.whatsapp import WhatsAppTemplate
from notifications.kinds import Kind
from notifications.models import Attempt, DeadLetter, Notification, State
from notifications.testing.redis_server import RedisServer
from notifications.testing.sendgrid_server import Answer, SendGridServer
from notifications.testing.smtp_server import Rule, SmtpServer
from notifications.testing.twilio_server import Answer as TwilioAnswer
from notifications.testing.whatsapp_server import Answer as WhatsAppAnswer
from notifications.testing.whatsapp_server import Template, WhatsAppServer
from tests.carriers import ask, carried_by, let_time_pass, twilio_server
from tests.mail_templates import kind_templates, use_templates

pytestmark = pytest.mark.django_db(transaction=True)

NAME, CODE, PASSWORD = "Canary Lovelace", "CANARY-48151623", "canary-password"
BODY = f"Dear {NAME}, your code is {CODE}, keep it."
TEXTS = {
    **kind_templates(
        "test_gossip",
        subject="For {{ name }}",
        text="Dear {{ name }}, your code is {{ code }}, keep it.",
        html="<p>Dear {{ name }}, your code is {{ code }}, keep it.</p>",
    ),
    "notifications/test_gossip/sms.txt": "Dear {{ name }}, your code is {{ code }}, keep it.",
}
TEMPLATE = Template("test_gossip", body="Dear {{1}}, your code is {{2}}, keep it.")


class Gossip(Kind):
    """Its secrets are made at send time."""

    name = "test_gossip"
    channels = ("email", "whatsapp", "sms")
    whatsapp = WhatsAppTemplate("test_gossip", languages=("en_US",), body=("name", "code"))
    at_most_once = True

    @classmethod
    def prepare(cls, batch: Sequence[Notification]) -> list[dict[str, Any]]:
        return [{"name": NAME, "code": CODE} for _row in batch]


def everything_stored() -> str:
    """Every value of every table but the addresses of notifications, which are there to be used."""
    told: list[str] = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            assert cursor.description is not None
            names = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                fields = dict(zip(names, row, strict=True))
                if table == "notifications_notification":
                    del fields["to"], fields["fallback"]
                told.append(f"{table} {fields}")
    return "\n".join(told)


def everything_in(redis: Redis) -> str:
    return "\n".join(f"{key!r} {redis.dump(key)!r}" for key in redis.scan_iter("*"))


@contextmanager
def gossips(channel: str, problem: int) -> Iterator[list[str]]:
    """A channel whose server misbehaves in one of its ways and repeats what it heard; its
    secrets."""
    with ExitStack() as stack:
        match channel:
            case "email over smtp":
                server = stack.enter_context(SmtpServer(users={"shop-user": PASSWORD}))
                said = f"{BODY} person0@example.com"
                server.rules = [
                    [Rule("RCPT", f"550 {said}")],
                    [Rule("CONTENT", f"451 {said}")],
                    [Rule("CONTENT", f"554 {said}")],
                    [Rule("AUTH", f"535 {PASSWORD} is not the password of shop-user")],
                    [Rule("RCPT", "421 too many for person0@example.com")],
                    [Rule("CONTENT", then="reset")],
                ][problem]
                login = {"EMAIL_HOST_USER": "shop-user", "EMAIL_HOST_PASSWORD": PASSWORD}
                stack.enter_context(override_settings(**login))
                stack.enter_context(carried_by(server, timeout=0.5))
                yield [PASSWORD, "shop-user"]
            case "email over sendgrid":
                key = "SG.canary-api-key"
                sendgrid = stack.enter_context(SendGridServer(api_key=key))
                said = f"{BODY} person0@example.com {key}"
                sendgrid.answers = [
                    [Answer(400, said)],
                    [Answer(500, said)],
                    [Answer(401, said)],
                    [Answer(429, said, headers={"Retry-After": "3"})],
                    [Answer(200, body=f"<p>{said}")],
                    [Answer(then="hang")],
                ][problem]
                stack.enter_context(carried_by(sendgrid, timeout=0.5))
                yield [key]
            case "whatsapp":
                whatsapp = stack.enter_context(
                    WhatsAppServer(templates=[TEMPLATE], token="EAAG-canary-token")
                )
                secrets = [whatsapp.token, whatsapp.app_secret, whatsapp.verify_token]
                said = f"{BODY} +12025550100 12025550100 {' '.join(secrets)}"
                whatsapp.answers = [
                    [WhatsAppAnswer(code=131026, details=said)],
                    [WhatsAppAnswer(code=131000, details=said)],
                    [WhatsAppAnswer(code=190, details=said)],
                    [WhatsAppAnswer(code=132012, details=said)],
                    [WhatsAppAnswer(status=200, body=said)],
                    [WhatsAppAnswer(then="hang")],
                ][problem]
                stack.enter_context(carried_by(whatsapp, timeout=0.5))
                yield secrets
            case _:
                twilio = stack.enter_context(twilio_server())
                token = str(twilio.options["AUTH_TOKEN"])
                said = f"{BODY} +12025550100 12025550100 {token}"
                twilio.answers = [
                    [TwilioAnswer(code=21211, message=said)],
                    [TwilioAnswer(code=20429, message=said)],
                    [TwilioAnswer(code=20003, message=said)],
                    [TwilioAnswer(status=500, body=said)],
                    [TwilioAnswer(status=302, message=said)],
                    [TwilioAnswer(then="hang")],
                ][problem]
                stack.enter_context(carried_by(twilio, timeout=0.5))
                yield [token]


@pytest.mark.parametrize("problem", range(6))
@pytest.mark.parametrize("way", ["email over smtp", "email over sendgrid", "whatsapp", "sms"])
def test_nothing_private_stays_anywhere(
    way: str, problem: int, redis: Redis, redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    channel = way.partition(" ")[0]
    with gossips(way, problem) as secrets, use_templates(TEXTS):
        queues = {name: {"URL": redis_server.url} for name in ("default", channel)}
        with override_settings(RQ_QUEUES=queues):
            holds.forget()
            [row] = ask(channel, kind=Gossip)
            for _ in range(4):
                jobs.serve(channel)
                let_time_pass(3601)
            stored, in_redis = everything_stored(), everything_in(redis)
    assert Attempt.objects.exclude(outcome="accepted").exists()
    row.refresh_from_db()
    if row.state == State.DEAD:
        assert DeadLetter.objects.exists()
    private = [NAME, "Lovelace", CODE, "48151623", "2025550100", "person0", *secrets]
    for place, text in (("a row", stored), ("Redis", in_redis), ("the log", caplog.text)):
        found = [each for each in private if each.lower() in text.lower()]
        assert not found, f"{found} in {place}"
