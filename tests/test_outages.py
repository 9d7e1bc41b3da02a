"""Providers that hang, hang up, drip, refuse and come back, with real sockets between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models import Count

from notifications.delivery import Delivery
from notifications.dispatch import send_email
from notifications.models import Alert, Attempt, DeadLetter, Hold, Notification, State
from notifications.service import Service
from notifications.testing.guarded import find_free_port
from notifications.testing.sendgrid_server import Answer, SendGridServer
from notifications.testing.smtp_server import Rule, SmtpServer
from notifications.testing.twilio_server import Answer as TwilioAnswer
from notifications.testing.whatsapp_server import Answer as WhatsAppAnswer
from tests.carriers import (
    KINDS,
    Once,
    Server,
    arrivals,
    ask,
    calls,
    carried_by,
    let_time_pass,
    outcomes,
    serve,
    states,
    twilio_server,
    whatsapp_server,
)

pytestmark = pytest.mark.django_db(transaction=True)

TIMEOUT = 0.5  # seconds a call may take in these tests
LATE = 1.0  # seconds that noticing, settling and saying goodbye may take on top


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    with SmtpServer() as server:
        yield server


@pytest.fixture
def sendgrid() -> Iterator[SendGridServer]:
    with SendGridServer() as server:
        yield server


# -- it takes the message, and does not say so --------------------------------------------------


def breaking(service: str, then: Any, *, accept: bool) -> tuple[str, Server]:
    """A channel and its server, which breaks the first two calls after it had the message."""
    match service:
        case "smtp" | "django":
            rule = Rule("CONTENT", then=then, accept=accept, times=2)
            return "email", SmtpServer(rules=[rule])
        case "sendgrid":
            return "email", SendGridServer(answers=[Answer(then=then, accept=accept, times=2)])
        case "whatsapp":
            answer = WhatsAppAnswer(then=then, accept=accept, times=2)
            return "whatsapp", whatsapp_server(answers=[answer])
        case _:
            twilio_answer = TwilioAnswer(then=then, accept=accept, times=2)
            return "sms", twilio_server(answers=[twilio_answer])


@pytest.mark.parametrize("accept", [True, False], ids=["taken", "not taken"])
@pytest.mark.parametrize("then", ["hang", "drip", "close", "reset"])
@pytest.mark.parametrize("service", ["smtp", "django", "sendgrid", "whatsapp", "twilio"])
def test_what_a_provider_may_have_goes_again_or_waits_as_its_kind_says(
    service: str, then: str, accept: bool
) -> None:
    channel, server = breaking(service, then, accept=accept)
    with server, carried_by(server, django_smtp=service == "django", timeout=TIMEOUT):
        often, once = (ask(channel, kind=kind)[0] for kind in KINDS)
        began = time.monotonic()
        serve(channel)
        took = time.monotonic() - began
        serve(channel, times=2)
    often.refresh_from_db()
    once.refresh_from_db()
    assert (often.state, once.state) == (State.SENT, State.UNKNOWN)
    assert (often.attempts, once.attempts) == (2, 1)
    assert [verdict for verdict, _code in outcomes(often)] == ["unknown", "accepted"]
    assert [verdict for verdict, _code in outcomes(once)] == ["unknown"]
    # At least once may be twice; at most once never is.
    expected = {str(often.pk): 2, str(once.pk): 1} if accept else {str(often.pk): 1}
    assert arrivals([server]) == expected
    assert took < TIMEOUT + LATE
    assert not Hold.objects.exists()


# -- our own mistakes -----------------------------------------------------------------------------

KEY = "Canary key\n"  # pasted with its line break


@pytest.mark.parametrize("service", ["sendgrid", "whatsapp"])
def test_a_key_that_cannot_be_sent_holds_the_provider_and_is_no_outage(service: str) -> None:
    channel, server = "email", SendGridServer(api_key=KEY)
    if service == "whatsapp":
        channel, server = "whatsapp", whatsapp_server(token=KEY)
    with server, carried_by(server):
        rows = ask(channel, 2)
        serve(channel)
    assert server.requests == []
    assert {code for row in rows for _verdict, code in outcomes(row)} == {"setup"}
    assert set(Notification.objects.values_list("state", "attempts")) == {("pending", 0)}
    assert Hold.objects.get().cause == Hold.Cause.PROVIDER
    assert "InvalidHeader" in Alert.objects.get().text
    kept = [*Attempt.objects.values(), *Hold.objects.values(), *Alert.objects.values()]
    assert "Canary" not in str([*kept, *Notification.objects.values()])


def test_the_next_provider_takes_what_the_settings_of_the_first_cannot_send(
    smtp: SmtpServer,
) -> None:
    with SendGridServer(api_key=KEY) as sendgrid, carried_by(sendgrid, smtp):
        [row] = ask()
        serve()
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.SENT, 1)


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT"])
@pytest.mark.parametrize("then", ["hang", "drip", "close", "reset"])
def test_what_breaks_before_the_content_goes_to_the_next_provider_once(
    smtp: SmtpServer, sendgrid: SendGridServer, stage: Any, then: Any
) -> None:
    smtp.rules.append(Rule(stage, then=then))
    with carried_by(smtp, sendgrid, timeout=TIMEOUT):
        [row] = ask(kind=Once)
        serve()
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.SENT, 1)
    assert arrivals([smtp, sendgrid]) == {str(row.pk): 1}


# -- an outage ------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["<html>welcome", "{}"])
@pytest.mark.parametrize("service", ["whatsapp", "twilio"])
def test_nonsense_for_an_answer_opens_the_breaker_though_it_says_success(
    service: str, body: str
) -> None:
    server: Server
    if service == "whatsapp":
        name, channel = "cloud", "whatsapp"
        server = whatsapp_server(answers=[WhatsAppAnswer(status=200, body=body)])
    else:
        name, channel = "twilio", "sms"
        server = twilio_server(answers=[TwilioAnswer(status=201, body=body)])
    with server, carried_by(server):
        ask(channel, 3, kind=Once)
        serve(channel)
        assert states() == {State.UNKNOWN}
        held = Hold.objects.get()
        assert (held.name, held.cause) == (name, "outage")
        ask(channel)
        serve(channel)
        assert len(server.requests) == 3


@pytest.mark.parametrize("django_smtp", [False, True])
def test_a_mail_server_without_room_is_followed_by_the_next_and_left_alone(
    smtp: SmtpServer, sendgrid: SendGridServer, *, django_smtp: bool
) -> None:
    smtp.rules.append(Rule("MAIL", "452 4.3.1 Insufficient system storage"))
    with carried_by(smtp, sendgrid, django_smtp=django_smtp):
        rows = ask(count=3)
        serve()
    assert states() == {State.SENT}
    assert arrivals([smtp, sendgrid]) == {str(row.pk): 1 for row in rows}
    assert Hold.objects.get().cause == "outage"


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_service_in_trouble_is_followed_by_the_next_one(
    smtp: SmtpServer, sendgrid: SendGridServer, status: int
) -> None:
    sendgrid.answers.append(Answer(status))
    with carried_by(sendgrid, smtp):
        ask(count=12)
        serve()
        assert (states(), sum(smtp.deliveries.values())) == ({State.SENT}, 12)
        tried = len(sendgrid.requests)
        assert 1 <= tried <= 12
        ask(count=5)
        serve()
        assert len(sendgrid.requests) == tried  # left alone
        sendgrid.answers.clear()
        let_time_pass(6)
        ask(count=5)
        serve()
        assert len(sendgrid.accepted) >= 1
    assert states() == {State.SENT}
    assert Hold.objects.get().lifted_at is not None
    assert set(arrivals([smtp, sendgrid]).values()) == {1}


def test_an_hour_without_anybody_kills_nothing(smtp: SmtpServer) -> None:
    nobody = find_free_port()
    smtp.stop()
    with carried_by(nobody, smtp):
        ask(count=30)
        for minute in range(60):
            serve()
            let_time_pass(61)
            if minute == 9:  # by then both breakers are open for as long as they ever are
                tried = Attempt.objects.count()
        assert states() == {State.PENDING}
        assert not DeadLetter.objects.exists()
        assert max(Notification.objects.values_list("attempts", flat=True)) <= 2
        assert Attempt.objects.count() - tried <= 2 * 50  # a probe of each a minute
        told = Alert.objects.values_list("subject", flat=True)
        assert sorted(told) == sorted(
            f"email: {name} is held" for name in (f"smtp-{nobody}", f"smtp-{smtp.port}")
        )
        smtp.start()
        for _minute in range(3):  # the message of the last vain probe made way for a minute
            serve()
            let_time_pass(61)
    assert states() == {State.SENT}
    assert set(smtp.deliveries.values()) == {1}


OUTAGES: dict[str, tuple[str, Any]] = {
    "whatsapp 503": ("whatsapp", WhatsAppAnswer(status=503)),
    "twilio 429": ("sms", TwilioAnswer(status=429)),
    # Twilio may have it all the same, and so may who hangs: each try may be one copy more.
    "twilio 503": ("sms", TwilioAnswer(status=503)),
    "twilio hangs": ("sms", TwilioAnswer(then="hang")),
}


@pytest.mark.parametrize(
    ("outage", "count"), [*((each, 10) for each in OUTAGES), ("twilio 503", 1)]
)
def test_an_hour_without_the_only_provider_kills_nothing(outage: str, count: int) -> None:
    channel, down = OUTAGES[outage]
    server = whatsapp_server() if channel == "whatsapp" else twilio_server()
    with server, carried_by(server, timeout=0.3):
        server.answers.append(down)
        rows = ask(channel, count)
        for _ in range(20):
            serve(channel)
            let_time_pass(181)
        assert states() == {State.PENDING}
        tried = dict(Attempt.objects.values_list("notification").annotate(Count("pk")))
        if outage.startswith("twilio") and not outage.endswith("429"):
            assert max(tried.values()) <= 6  # four tries, and one an hour
        server.answers.clear()
        for _ in range(4):
            let_time_pass(3601)
            serve(channel)
    assert states() == {State.SENT}
    assert arrivals([server]) == {str(row.pk): 1 for row in rows}


@pytest.mark.parametrize(
    ("service", "headers", "least", "most"),
    [
        ("sendgrid", {"X-RateLimit-Reset": "now + 90"}, 85, 91),
        ("sendgrid", {"Retry-After": "40"}, 38, 41),
        ("whatsapp", {"Retry-After": "50"}, 48, 51),
        ("twilio", {"Retry-After": "20"}, 18, 21),
    ],
)
def test_a_service_that_asks_to_wait_is_left_alone_by_the_whole_channel(
    service: str, headers: dict[str, str], least: float, most: float
) -> None:
    headers = {
        name: str(int(time.time()) + 90) if value == "now + 90" else value
        for name, value in headers.items()
    }
    server: Server
    match service:
        case "sendgrid":
            channel = "email"
            server = SendGridServer(answers=[Answer(429, headers=headers, times=1)])
        case "whatsapp":
            answer = WhatsAppAnswer(code=80007, headers=headers, times=1)
            channel, server = "whatsapp", whatsapp_server(answers=[answer])
        case _:
            channel = "sms"
            server = twilio_server(answers=[TwilioAnswer(code=20429, headers=headers, times=1)])
    with server, carried_by(server):
        [row] = ask(channel)
        serve(channel)
        others = ask(channel, 4)[1:]
        serve(channel, times=2)
        row.refresh_from_db()
        assert (row.state, row.attempts, len(server.requests)) == (State.PENDING, 0, 1)
        held = Hold.objects.get()
        assert held.until is not None
        assert held.cause == "asked"
        assert least < (held.until - held.created_at).total_seconds() < most
        let_time_pass(most + 1)
        serve(channel, times=2)
    assert states() == {State.SENT}
    assert len(others) == 3
    assert not Alert.objects.exists()


def test_a_wrong_key_is_told_and_the_next_provider_carries_on(
    smtp: SmtpServer, sendgrid: SendGridServer
) -> None:
    with carried_by(sendgrid, smtp):
        sendgrid.api_key = "SG.another"
        ask(count=10)
        serve(times=2)
    assert sum(smtp.deliveries.values()) == 10
    told = Alert.objects.get()
    assert (told.subject, told.channel) == ("email: sendgrid is held", "email")
    assert "401" in told.text
    assert "SG." not in told.text
    assert Hold.objects.get().cause == "provider"


def test_a_message_that_its_provider_cannot_bear_holds_up_no_other(
    sendgrid: SendGridServer,
) -> None:
    sendgrid.answers.append(Answer(500, "internal error", match="poison@example.com"))
    with carried_by(sendgrid):
        with transaction.atomic():
            [poison] = send_email(to="poison@example.com", subject="Hello", text="Hello")
        serve(times=3)
        assert Hold.objects.get().cause == "outage"
        ask(count=3)
        for _ in range(5):
            let_time_pass(6)
            serve()
        poison.refresh_from_db()
        assert Notification.objects.exclude(pk=poison.pk).filter(state=State.SENT).count() == 3
        assert calls("sendgrid") >= 6
    assert poison.state in (State.PENDING, State.DEAD)


def test_a_server_that_drips_before_it_greets_has_the_time_of_one_call(
    smtp: SmtpServer, sendgrid: SendGridServer
) -> None:
    smtp.rules.append(Rule("CONNECT", then="drip"))
    with carried_by(smtp, sendgrid, django_smtp=True, timeout=TIMEOUT):
        [row] = ask(kind=Once)
        began = time.monotonic()
        serve()
        took = time.monotonic() - began
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.SENT, 1)
    assert arrivals([smtp, sendgrid]) == {str(row.pk): 1}
    assert took < TIMEOUT + LATE + 1.0  # its thread is left behind, after a second's patience


def test_what_an_outage_leaves_behind_goes_out_within_the_rate(smtp: SmtpServer) -> None:
    compressed = {"FAILURES": 3, "BASE": 0.05, "LONGEST": 0.2, "PATIENCE": 60.0}
    smtp.stop()
    with carried_by(smtp, BREAKER=compressed, rate="20/s"):
        rows = ask(count=40)
        until = time.monotonic() + 8.0
        while not Alert.objects.exists() and time.monotonic() < until:
            Service(["email"], shared_rate=False).run(0.2)
        assert states() == {State.PENDING}
        assert max(Notification.objects.values_list("attempts", flat=True)) <= 2
        assert Alert.objects.count() == 1
        smtp.start()
        until = time.monotonic() + 8.0
        while states() != {State.SENT} and time.monotonic() < until:
            Service(["email"], shared_rate=False).run(0.5)
    times = [each.at for each in smtp.messages]
    assert arrivals([smtp]) == {str(row.pk): 1 for row in rows}
    assert max(sum(0 <= each - start < 1.0 for each in times) for start in times) <= 22
    assert times[-1] - times[0] < 4.0
    assert Hold.objects.get().lifted_at is not None


def test_what_was_announced_behind_a_slow_mail_does_not_follow_too_late_in_its_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over SMTP the next mail is announced while one is on its way. It would be on its way itself
    when its lease ends, and another worker would send it too."""
    lease = 4.8

    def another_worker() -> None:
        until = time.monotonic() + lease + 1
        time.sleep(lease)
        while time.monotonic() < until:
            serve()
        connections.close_all()

    monkeypatch.setattr(Delivery, "window", 8)  # as if many had gone out quickly before
    server = SmtpServer(rules=[Rule("CONTENT", delay=2.5)])
    with server, carried_by(server, timeout=3.0, LEASE=lease):
        ask(count=4)
        other = threading.Thread(target=another_worker)
        other.start()
        serve()
        other.join()
        serve(times=3)
    assert states() == {State.SENT}
    assert set(arrivals([server]).values()) == {1}
    assert set(Attempt.objects.values_list("outcome", flat=True)) == {"accepted"}
