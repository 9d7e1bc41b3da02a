"""Every answer of SendGrid's API: from the row over real HTTP to what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from django.utils import timezone

from notifications import jobs
from notifications.models import Alert, DeadLetter, Hold, Notification, State, Suppression
from notifications.testing.sendgrid_server import Answer, SendGridServer
from notifications.testing.smtp_server import SmtpServer
from tests.carriers import arrivals, ask, carried_by, outcomes, serve

pytestmark = pytest.mark.django_db(transaction=True)

RETRY = {"RETRIES": 3, "BASE": 2.0, "JITTER": 0.0}

# By what follows: "Errors" in SendGrid's documentation of its Web API v3.
LATER = [408, 425, 429, 500, 502, 503, 504, 599]
NEVER = [400, 404, 405, 406, 409, 410, 411, 413, 415, 422]
HELD = [301, 302, 307, 401, 402, 403, 407]


@pytest.fixture
def server() -> Iterator[SendGridServer]:
    with SendGridServer() as server, carried_by(server, RETRY=RETRY):
        yield server


def deliver(row: Notification) -> Notification:
    jobs.deliver_email(row.pk)
    row.refresh_from_db()
    return row


def seconds_until_due(row: Notification) -> float:
    return (row.due_at - timezone.now()).total_seconds()


def test_what_is_accepted_keeps_sendgrids_id(server: SendGridServer) -> None:
    row = deliver(ask()[0])
    assert (row.state, row.attempts) == (State.SENT, 1)
    assert outcomes(row) == [("accepted", "202")]
    assert row.attempt_set.get().message_id


@pytest.mark.parametrize("status", LATER)
def test_trouble_of_the_service_goes_again_after_the_usual_wait(
    server: SendGridServer, status: int
) -> None:
    server.answers = [Answer(status, "not now, person0@example.com", times=1)]
    row = deliver(ask()[0])
    assert (row.state, row.attempts) == (State.PENDING, 1)
    assert 1 < seconds_until_due(row) <= 2
    assert row.reason == f"{status} not now, …"
    assert (Hold.objects.count(), DeadLetter.objects.count()) == (0, 0)
    assert deliver(row).state == State.SENT
    assert server.deliveries == {str(row.pk): 1}


@pytest.mark.parametrize("status", NEVER)
def test_what_sendgrid_will_never_take_is_dead_at_once(server: SendGridServer, status: int) -> None:
    server.answers = [Answer(status, "never")]
    row = deliver(ask()[0])
    assert (row.state, row.attempts, row.reason) == (State.DEAD, 1, f"{status} never")
    letter = DeadLetter.objects.get()
    assert (letter.code, letter.error) == (str(status), "AnymailRequestsAPIError")
    assert (Hold.objects.count(), Suppression.objects.count()) == (0, 0)


def test_what_is_too_large_for_sendgrid_goes_to_the_next_provider() -> None:
    too_large = [Answer(413)]
    with SendGridServer(answers=too_large) as sendgrid, SmtpServer() as smtp, carried_by(
        sendgrid, smtp
    ):  # fmt: skip
        row = deliver(ask()[0])
    assert (row.state, row.attempts) == (State.SENT, 1)
    assert arrivals([sendgrid, smtp]) == {str(row.pk): 1}


@pytest.mark.parametrize("status", HELD)
def test_what_stops_everything_holds_the_provider_and_is_told(
    server: SendGridServer, status: int
) -> None:
    server.answers = [Answer(status, "no", headers={"Location": "/elsewhere"})]
    row, other = ask(count=2)
    serve()
    for each in (row, other):
        each.refresh_from_db()
        assert (each.state, each.attempts) == (State.PENDING, 0)
    held = Hold.objects.get()
    assert (held.name, held.cause) == ("sendgrid", "provider")
    assert held.until is not None
    assert 290 < (held.until - timezone.now()).total_seconds() <= 300
    assert Alert.objects.get().subject == "email: sendgrid is held"
    seen = len(server.requests)
    serve()
    assert len(server.requests) == seen


@pytest.mark.parametrize(
    ("status", "header"), [(429, "X-RateLimit-Reset"), (429, "Retry-After"), (503, "Retry-After")]
)
def test_a_wait_that_is_asked_for_costs_no_attempt(
    server: SendGridServer, status: int, header: str
) -> None:
    headers = {header: "60" if header == "Retry-After" else str(int(time.time()) + 60)}
    server.answers = [Answer(status, headers=headers, times=1)]
    row = deliver(ask()[0])
    assert (row.state, row.attempts) == (State.PENDING, 0)
    held = Hold.objects.get()
    assert (held.name, held.cause) == ("sendgrid", "asked")
    assert held.until is not None
    assert 55 < (held.until - timezone.now()).total_seconds() <= 60
    assert not Alert.objects.exists()


def test_one_trouble_with_the_end_of_a_limit_in_it_holds_nothing(server: SendGridServer) -> None:
    headers = {"X-RateLimit-Remaining": "599", "X-RateLimit-Reset": str(int(time.time()) + 3000)}
    server.answers = [Answer(500, headers=headers, times=1)]
    row = deliver(ask()[0])
    assert (row.state, row.attempts) == (State.PENDING, 1)
    assert not Hold.objects.exists()
    assert deliver(row).state == State.SENT


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(200, body="<html>welcome"), "200"),
        (Answer(then="close"), "disconnected"),
        (Answer(then="reset", accept=True), "disconnected"),
        (Answer(then="hang", accept=True), "timeout"),
        (Answer(then="drip", accept=True), "deadline"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.then or "200",
)
def test_what_sendgrid_may_have_is_unknown(
    server: SendGridServer, answer: Answer, code: str
) -> None:
    server.answers = [answer]
    row = deliver(ask()[0])
    assert (row.state, row.attempts) == (State.PENDING, 1)
    assert 1 < seconds_until_due(row) <= 2
    ((verdict, told),) = outcomes(row)
    assert (verdict, told) == ("unknown", code)
    server.answers = []
    assert deliver(row).state == State.SENT
