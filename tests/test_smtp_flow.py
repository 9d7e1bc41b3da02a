"""Every answer of a mail server: from the row over real SMTP to what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone

from notifications import jobs
from notifications.models import Alert, DeadLetter, Hold, Notification, State, Suppression
from notifications.testing.smtp_server import Rule, SmtpServer
from tests.carriers import ask, carried_by, outcomes, serve

pytestmark = pytest.mark.django_db(transaction=True)

RETRY = {"RETRIES": 3, "BASE": 2.0, "JITTER": 0.0}
BEFORE_CONTENT = ("MAIL", "RCPT", "DATA")

# Stage and answer, by what follows. RFC 5321 section 4.2, RFC 4954 section 6.
LATER = [
    *((stage, 421) for stage in ("CONNECT", "EHLO", *BEFORE_CONTENT, "CONTENT")),
    *((stage, 451) for stage in ("CONNECT", *BEFORE_CONTENT, "CONTENT")),
    ("MAIL", 452),
    ("RCPT", 450),
    ("RCPT", 452),
    ("RCPT", 454),
    ("CONTENT", 499),
]
NEVER = [
    *((stage, 550) for stage in (*BEFORE_CONTENT, "CONTENT")),
    *((stage, 554) for stage in (*BEFORE_CONTENT, "CONTENT")),
    *(("RCPT", code) for code in (500, 501, 502, 503, 504, 551, 552, 553, 555, 556, 599)),
    ("CONTENT", 552),
]
HELD = [
    *(("MAIL", code) for code in (530, 534, 535, 538)),
    *(("RCPT", code) for code in (530, 535)),
    # Refused before any message: the next one would fare no better.
    ("CONNECT", 554),
    ("CONNECT", 521),
    ("EHLO", 550),
]


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with SmtpServer() as server, carried_by(server, RETRY=RETRY):
        yield server


def deliver(row: Notification) -> Notification:
    jobs.deliver_email(row.pk)
    row.refresh_from_db()
    return row


def seconds_until_due(row: Notification) -> float:
    return (row.due_at - timezone.now()).total_seconds()


@pytest.mark.parametrize(("stage", "code"), LATER)
def test_a_code_of_four_hundred_goes_again_after_the_usual_wait(
    server: SmtpServer, stage: Any, code: int
) -> None:
    server.rules.append(Rule(stage, f"{code} not now <person0@example.com>", times=1))
    row = deliver(ask()[0])
    assert (row.state, row.attempts) == (State.PENDING, 1)
    assert 1 < seconds_until_due(row) <= 2
    if stage == "EHLO":  # smtplib keeps to itself with which words a server hung up
        assert outcomes(row) == [("later", "disconnected")]
    else:
        assert row.reason == f"{code} not now <address>"
        assert outcomes(row) == [("later", str(code))]
    assert (Hold.objects.count(), DeadLetter.objects.count()) == (0, 0)
    assert deliver(row).state == State.SENT
    assert server.deliveries == {str(row.pk): 1}


@pytest.mark.parametrize(("stage", "code"), NEVER)
def test_a_code_of_five_hundred_about_a_message_is_its_end(
    server: SmtpServer, stage: Any, code: int
) -> None:
    server.rules.append(Rule(stage, f"{code} never", times=1))
    row, neighbour = ask(count=2)
    serve()
    row.refresh_from_db()
    neighbour.refresh_from_db()
    dead, sent = (row, neighbour) if row.state == State.DEAD else (neighbour, row)
    assert (dead.state, dead.attempts, sent.state) == (State.DEAD, 1, State.SENT)
    assert dead.reason == f"{code} never"
    letter = DeadLetter.objects.get()
    assert (letter.notification_id, letter.code, letter.attempts) == (dead.pk, str(code), 1)
    assert (Hold.objects.count(), Suppression.objects.count()) == (0, 0)
    assert server.deliveries == {str(sent.pk): 1}


@pytest.mark.parametrize(("stage", "code"), HELD)
def test_a_server_that_takes_nothing_from_us_is_held_and_told(
    server: SmtpServer, stage: Any, code: int
) -> None:
    server.rules.append(Rule(stage, f"{code} not from you"))
    row, other = ask(count=2)
    serve()
    for each in (row, other):
        each.refresh_from_db()
        assert (each.state, each.attempts) == (State.PENDING, 0)
        assert seconds_until_due(each) <= 0
    held = Hold.objects.get()
    assert (held.scope, held.cause) == ("provider", "provider")
    assert held.reason == f"{code} not from you"
    assert held.until is not None
    assert 290 < (held.until - timezone.now()).total_seconds() <= 300
    assert f"{code} not from you" in Alert.objects.get().text
    seen = server.connections
    serve()
    assert server.connections == seen, "nothing is tried while it is held"


@pytest.mark.parametrize("code", [534, 535, 538, 454])
def test_a_log_in_that_is_refused_holds_the_server_or_waits(code: int) -> None:
    with SmtpServer(users={"shop": "right"}) as server:
        server.rules.append(Rule("AUTH", f"{code} no"))
        login = {"EMAIL_HOST_USER": "shop", "EMAIL_HOST_PASSWORD": "right"}
        with carried_by(server, RETRY=RETRY), override_settings(**login):
            row = deliver(ask()[0])
    expected = 1 if code == 454 else 0  # RFC 4954: a passing failure
    assert (row.state, row.attempts) == (State.PENDING, expected)
    assert Hold.objects.count() == 1 - expected


@pytest.mark.parametrize("code", [300, 354, 600])
def test_an_answer_that_is_none_is_unknown(server: SmtpServer, code: int) -> None:
    server.rules.append(Rule("CONTENT", f"{code} what", times=1))
    row = deliver(ask()[0])
    assert (row.state, row.attempts) == (State.PENDING, 1)
    assert outcomes(row)[0][0] == "unknown"
    assert 1 < seconds_until_due(row) <= 2


def test_the_waits_double_and_the_fourth_failure_is_the_end(server: SmtpServer) -> None:
    server.rules.append(Rule("RCPT", "450 busy"))
    row = ask()[0]
    for wait in (2, 4, 8):
        deliver(row)
        assert wait - 1 < seconds_until_due(row) <= wait
    deliver(row)
    assert (row.state, row.attempts) == (State.DEAD, 4)
    assert row.reason == "450 busy (attempt 4 of 4)"
