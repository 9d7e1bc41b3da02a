"""Django's email backends as providers: SendGrid through Anymail, SMTP, and others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
import requests
from anymail.exceptions import (
    AnymailInvalidAddress,
    AnymailRecipientsRefused,
    AnymailSerializationError,
    AnymailUnsupportedFeature,
)
from anymail.signals import post_send, pre_send
from django.core import mail as django_mail
from django.core.mail.backends.base import BaseEmailBackend
from django.test import override_settings

from notifications.message import Attachment, Email, Outcome, Verdict
from notifications.providers.django_email import DjangoEmail
from notifications.providers.http_replies import judge_status, read_message, read_wait
from notifications.testing.guarded import find_free_port
from notifications.testing.sendgrid_server import Answer, SendGridServer, find_errors
from notifications.testing.smtp_server import Rule, SmtpServer
from tests.lanes import ScriptedLane

SENDGRID = "anymail.backends.sendgrid.EmailBackend"
SMTP = "django.core.mail.backends.smtp.EmailBackend"


def email(number: int = 1, **changes: Any) -> Email:
    given: dict[str, Any] = {
        "id": number,
        "to": f"person{number}@example.com",
        "sender": "Jörg's Shop <shop@example.com>",
        "subject": f"Order {number}",
        "text": "Hello\n",
        "html": "<p>Hello</p>\n",
        "message_id": f"<{number}.1@example.com>",
        "category": "order_confirmation",
    }
    return Email(**(given | changes))


def sendgrid(server: SendGridServer, *, timeout: float = 5.0, **options: Any) -> DjangoEmail:
    given = {"BACKEND": SENDGRID, "api_key": server.api_key, "api_url": server.url}
    return DjangoEmail("sendgrid", timeout=timeout, options=given | options)


def smtp(server: SmtpServer, *, timeout: float = 5.0, **options: Any) -> DjangoEmail:
    given = {"BACKEND": SMTP, "host": server.host, "port": server.port}
    return DjangoEmail("smtp", timeout=timeout, options=given | options)


def send(provider: DjangoEmail, *messages: Email) -> list[Outcome]:
    session = provider.connect()
    with closing(session):
        return [session.send(message) for message in messages]


@pytest.fixture
def server() -> Iterator[SendGridServer]:
    with SendGridServer() as server:
        yield server


# -- the request to SendGrid ----------------------------------------------------------------


def test_the_request_to_sendgrid_field_by_field(server: SendGridServer) -> None:
    message = email(
        7,
        subject="Grüße <b> & mehr",
        reply_to=("help@example.com", "Ann <ann@example.com>"),
        headers={"List-Unsubscribe": "<https://example.com/u>"},
        attachments=(
            Attachment("Rechnung März.pdf", b"%PDF", "application/pdf"),
            Attachment("logo.png", b"\x89PNG", "image/png", "logo"),
        ),
    )
    (outcome,) = send(sendgrid(server), message)
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v3/mail/send")
    assert request.headers["Authorization"] == f"Bearer {server.api_key}"
    assert request.headers["Content-Type"] == "application/json"
    payload = request.payload
    (personalization,) = payload["personalizations"]
    message_id = personalization["custom_args"].pop("anymail_id")
    assert payload == {
        "personalizations": [{"to": [{"email": "person7@example.com"}], "custom_args": {}}],
        "from": {"email": "shop@example.com", "name": "Jörg's Shop"},
        "reply_to_list": [
            {"email": "help@example.com"},
            {"email": "ann@example.com", "name": "Ann"},
        ],
        "subject": "Grüße <b> & mehr",
        "content": [
            {"type": "text/plain", "value": "Hello\n"},
            {"type": "text/html", "value": "<p>Hello</p>\n"},
        ],
        "headers": {
            "Message-ID": "<7.1@example.com>",
            "X-Notification-Id": "7",
            "List-Unsubscribe": "<https://example.com/u>",
        },
        "custom_args": {"notification_id": "7"},
        "categories": ["order_confirmation"],
        "attachments": [
            {"content": "JVBERg==", "type": "application/pdf", "filename": "Rechnung März.pdf"},
            {
                "content": "iVBORw==",
                "type": "image/png",
                "filename": "logo.png",
                "disposition": "inline",
                "content_id": "logo",
            },
        ],
    }
    assert server.deliveries == {"7": 1}
    assert outcome == Outcome(Verdict.ACCEPTED, code="202", message_id=message_id)


@pytest.mark.parametrize(
    ("changes", "content"),
    [
        ({"html": ""}, [{"type": "text/plain", "value": "Hello\n"}]),
        ({"text": ""}, [{"type": "text/html", "value": "<p>Hello</p>\n"}]),
    ],
)
def test_one_body_is_enough(
    server: SendGridServer, changes: dict[str, str], content: list[dict[str, str]]
) -> None:
    (outcome,) = send(sendgrid(server), email(**changes))
    assert outcome.accepted
    assert server.accepted[0]["content"] == content


def test_a_mail_without_a_kind_has_no_category(server: SendGridServer) -> None:
    send(sendgrid(server), email(category=""))
    assert "categories" not in server.accepted[0]


def test_nobody_else_gets_the_mail_over_an_api(server: SendGridServer) -> None:
    """An API that sees an address in Cc sends to it."""
    shown = "Person One <person1@example.com>, bob@example.com"
    (outcome,) = send(sendgrid(server), email(to_header=shown, cc_header="carl@example.com"))
    assert outcome.accepted
    (payload,) = server.accepted
    (personalization,) = payload["personalizations"]
    assert personalization["to"] == [{"email": "person1@example.com", "name": "Person One"}]
    assert set(personalization) == {"to", "custom_args"}
    assert "bob@example.com" not in str(payload)
    assert "carl@example.com" not in str(payload)


def test_a_session_keeps_its_connection(server: SendGridServer) -> None:
    outcomes = send(sendgrid(server), *map(email, range(1, 11)))
    assert all(outcome.accepted for outcome in outcomes)
    assert server.connections == 1
    assert server.deliveries == {str(number): 1 for number in range(1, 11)}


def test_a_line_break_reaches_no_api(server: SendGridServer) -> None:
    lane = ScriptedLane(email(1, to="nobody\r\nBcc: eve@example.com"), email(2))
    session = sendgrid(server).connect()
    session.work(lane)
    session.close()
    assert [outcome.verdict for _message, outcome in lane.outcomes] == [
        Verdict.PERMANENT, Verdict.ACCEPTED,
    ]  # fmt: skip
    assert len(server.requests) == 1


# -- its answers ----------------------------------------------------------------------------

STATUSES = [
    (400, Verdict.PERMANENT, False),
    (401, Verdict.HOLD, True),
    (402, Verdict.HOLD, True),
    (403, Verdict.HOLD, True),
    (404, Verdict.PERMANENT, False),
    (405, Verdict.PERMANENT, False),
    (408, Verdict.LATER, True),
    (413, Verdict.PERMANENT, True),
    (429, Verdict.LATER, True),
    (500, Verdict.LATER, True),
    (502, Verdict.LATER, True),
    (503, Verdict.LATER, True),
]


@pytest.mark.parametrize(("status", "verdict", "theirs"), STATUSES)
def test_an_answer_is_judged_by_its_status(status: int, verdict: Verdict, theirs: bool) -> None:
    answer = Answer(status, "Something about <person1@example.com> is wrong.", times=1)
    with SendGridServer(answers=[answer]) as server:
        refused, accepted = send(sendgrid(server), email(1), email(2))
        assert server.deliveries == {"2": 1}
    assert (refused.verdict, refused.theirs, refused.code) == (verdict, theirs, str(status))
    assert refused.error == "AnymailRequestsAPIError"
    assert refused.text == "Something about <…> is wrong."
    assert accepted.accepted


def test_too_many_requests_wait_until_the_time_they_are_told() -> None:
    reset = str(int(time.time()) + 30)
    with SendGridServer(answers=[Answer(429, headers={"X-RateLimit-Reset": reset})]) as server:
        (outcome,) = send(sendgrid(server), email())
    assert outcome.retry_after is not None
    assert 28 <= outcome.retry_after <= 31


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DATE = format_datetime(NOW, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"X-RateLimit-Reset": str(int(NOW.timestamp()) + 30), "Date": DATE}, 30.0),
        ({"X-RateLimit-Reset": str(int(NOW.timestamp()) - 30), "Date": DATE}, 1.0),
        ({"X-RateLimit-Reset": str(int(NOW.timestamp()) + 90_000), "Date": DATE}, 3600.0),
        ({"X-RateLimit-Reset": "20"}, 20.0),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": format_datetime(NOW.replace(minute=2), usegmt=True), "Date": DATE}, 120.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "5", "Date": "yesterday"}, 5.0),
    ],
)
def test_a_wait_is_read_by_the_other_side_s_clock(headers: dict[str, str], wait: Any) -> None:
    assert read_wait(429, headers) == wait
    assert judge_status(429, headers, "").retry_after == wait


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504])
def test_when_a_limit_begins_anew_says_nothing_of_how_long_trouble_lasts(status: int) -> None:
    limit = {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": "599"}
    limit |= {"X-RateLimit-Reset": "3000"}
    assert judge_status(status, limit, "").retry_after is None
    assert judge_status(status, {**limit, "Retry-After": "7"}, "").retry_after == 7.0
    reached = {**limit, "X-RateLimit-Remaining": "0", "Retry-After": "7"}
    assert judge_status(status, reached, "").retry_after == 3000.0


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"errors": [{"message": "a", "field": "x"}, {"message": "b"}]}, "a; b"),
        ({"errors": [{"message": None}, "c"]}, ""),
        ({"message": "m"}, "m"),
        ({"Message": "M"}, "M"),
        ({"error": {"deep": 1}}, ""),
        (["x"], ""),
        (None, ""),
    ],
)
def test_what_a_service_says_is_found(body: Any, text: str) -> None:
    assert read_message(body) == text


def test_a_wrong_key_holds_the_provider_and_is_told_nobody(server: SendGridServer) -> None:
    key = "SG.another-key-that-is-wrong.0123456789"
    (outcome,) = send(sendgrid(server, api_key=key), email())
    assert (outcome.verdict, outcome.code, outcome.theirs) == (Verdict.HOLD, "401", True)
    assert "authorization grant" in outcome.text
    assert key not in repr(outcome)


def test_no_secret_and_no_content_comes_into_an_outcome() -> None:
    secrets = ["SG.test-key", "person1@example.com", "Order 1", "shop@example.com", "Hello"]
    said = "Refused: key SG.test-key.only-for-tests, to person1@example.com, subject order 1, x"
    for answer in (
        Answer(400, said),
        Answer(400, body='{"errors": 3, "payload": "<p>Hello</p>"}'),
        Answer(500, body="<p>Hello</p>"),
        Answer(202, then="reset"),
    ):
        with SendGridServer(answers=[answer]) as server:
            (outcome,) = send(sendgrid(server), email())
        assert not any(secret.lower() in repr(outcome).lower() for secret in secrets), outcome


# -- broken connections ---------------------------------------------------------------------


def lane_of(provider: DjangoEmail, *messages: Email) -> ScriptedLane[Email]:
    lane = ScriptedLane(*messages)
    session = provider.connect()
    session.work(lane)
    session.close()
    return lane


def test_nobody_there_can_go_again(server: SendGridServer) -> None:
    url = f"http://127.0.0.1:{find_free_port()}/v3/"
    lane = lane_of(sendgrid(server, api_url=url), email())
    outcome = lane.outcome
    assert (outcome.verdict, outcome.code, outcome.theirs) == (Verdict.LATER, "refused", True)
    assert not lane.begun(email())


def test_an_unknown_host_can_go_again(server: SendGridServer) -> None:
    lane = lane_of(sendgrid(server, api_url="http://no-such-host.invalid/v3/"), email())
    assert (lane.outcome.verdict, lane.outcome.code) == (Verdict.LATER, "dns")
    assert lane.outcome.theirs


def test_a_server_that_speaks_no_tls_can_be_tried_again(server: SendGridServer) -> None:
    url = server.url.replace("http://", "https://")
    lane = lane_of(sendgrid(server, api_url=url), email())
    assert (lane.outcome.verdict, lane.outcome.code) == (Verdict.LATER, "tls")
    assert not lane.begun(email())


@pytest.mark.parametrize("accept", [True, False], ids=["accepted", "not accepted"])
@pytest.mark.parametrize("then", ["close", "reset", "hang"])
def test_silence_after_the_request_is_unknown(then: Any, accept: bool) -> None:
    with SendGridServer(answers=[Answer(then=then, accept=accept, times=1)]) as server:
        lane = lane_of(sendgrid(server, timeout=0.6), email(1), email(2))
        assert server.deliveries == ({"1": 1} if accept else {}) | {"2": 1}
    unknown, accepted = (outcome for _message, outcome in lane.outcomes)
    assert (unknown.verdict, unknown.theirs) == (Verdict.UNKNOWN, True)
    assert unknown.code == ("timeout" if then == "hang" else "disconnected")
    assert accepted.accepted
    assert lane.begun(email(1))


def test_an_answer_that_is_none_is_unknown() -> None:
    backend = "anymail.backends.resend.EmailBackend"
    with SendGridServer(answers=[Answer(200, body="<html>welcome")]) as server:
        options = {"BACKEND": backend, "api_key": "re_test_key", "api_url": server.url}
        (outcome,) = send(DjangoEmail("resend", timeout=5.0, options=options), email())
    assert (outcome.verdict, outcome.code) == (Verdict.UNKNOWN, "200")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(server: SendGridServer, status: int) -> None:
    location = {"Location": server.url + "mail/send"}
    with SendGridServer(answers=[Answer(status, headers=location)]) as wrong:
        (outcome,) = send(sendgrid(wrong), email())
    assert (outcome.verdict, outcome.theirs) == (Verdict.HOLD, True)
    assert server.requests == []


@pytest.mark.parametrize("then", ["hang", "drip"])
def test_abort_ends_a_call_from_another_thread(then: Any) -> None:
    with SendGridServer(answers=[Answer(then=then)]) as server:
        session = sendgrid(server, timeout=60.0).connect()
        ended: list[Outcome] = []
        thread = threading.Thread(target=lambda: ended.append(session.send(email())), daemon=True)
        thread.start()
        until = time.monotonic() + 5
        while not server.requests:
            assert time.monotonic() < until
            time.sleep(0.005)
        session.abort()
        thread.join(5)
        assert not thread.is_alive()
        assert ended[0].verdict is Verdict.UNKNOWN
        assert session.send(email(2)).verdict is not Verdict.ACCEPTED
        session.close()


def test_a_message_is_begun_when_its_first_byte_goes(server: SendGridServer) -> None:
    lane = lane_of(sendgrid(server), email(1), email(2))
    assert [what for what, _message in lane.story] == ["take", "begin", "report"] * 2


# -- other ways to fail ---------------------------------------------------------------------


class Raising(BaseEmailBackend):
    """Raises what it is told to."""

    def __init__(self, error: Exception, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.error = error

    def send_messages(self, email_messages: Sequence[Any]) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "verdict", "theirs"),
    [
        (AnymailInvalidAddress("bad"), Verdict.PERMANENT, False),
        (AnymailUnsupportedFeature("tags"), Verdict.PERMANENT, False),
        (AnymailSerializationError("date"), Verdict.PERMANENT, False),
        (AnymailRecipientsRefused(), Verdict.PERMANENT, False),
        (ConnectionRefusedError("nobody"), Verdict.LATER, True),
        (TimeoutError("slow"), Verdict.UNKNOWN, True),
        (ConnectionResetError("gone"), Verdict.UNKNOWN, True),
        (ZeroDivisionError("a mistake"), Verdict.UNKNOWN, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_of_other_backends_are_judged(
    error: Exception, verdict: Verdict, theirs: bool
) -> None:
    options = {"BACKEND": f"{__name__}.Raising", "error": error}
    (outcome,) = send(DjangoEmail("own", timeout=5.0, options=options), email())
    assert (outcome.verdict, outcome.theirs) == (verdict, theirs)
    assert outcome.error == type(error).__qualname__
    assert bool(outcome.traceback) == isinstance(error, ZeroDivisionError)


def test_a_mistake_before_anything_went_out_can_go_again(server: SendGridServer) -> None:
    def interfere(message: Any, **kwargs: Any) -> None:
        raise KeyError("a receiver of the project's")

    pre_send.connect(interfere)
    try:
        (outcome,) = send(sendgrid(server), email())
    finally:
        pre_send.disconnect(interfere)
    assert (outcome.verdict, outcome.error) == (Verdict.LATER, "KeyError")
    assert "interfere" in outcome.traceback
    assert server.requests == []


def test_a_mistake_after_the_answer_is_unknown(server: SendGridServer) -> None:
    def interfere(message: Any, **kwargs: Any) -> None:
        raise KeyError("a receiver of the project's")

    post_send.connect(interfere)
    try:
        (outcome,) = send(sendgrid(server), email())
    finally:
        post_send.disconnect(interfere)
    assert outcome.verdict is Verdict.UNKNOWN
    assert server.deliveries == {"1": 1}


class Silent(BaseEmailBackend):
    """Sends nothing and says nothing."""

    def send_messages(self, email_messages: Sequence[Any]) -> int:
        return 0


def test_what_was_not_sent_can_go_again() -> None:
    options = {"BACKEND": f"{__name__}.Silent"}
    (outcome,) = send(DjangoEmail("silent", timeout=5.0, options=options), email())
    assert (outcome.verdict, outcome.code, outcome.theirs) == (Verdict.LATER, "not_sent", False)


def test_django_s_own_backends_carry_the_whole_mail() -> None:
    locmem = "django.core.mail.backends.locmem.EmailBackend"
    message = email(
        to_header="Ann <person1@example.com>, bob@example.com",
        cc_header="carl@example.com",
        reply_to=("help@example.com",),
        headers={"X-Shop": "7"},
    )
    django_mail.outbox = []
    (outcome,) = send(DjangoEmail("locmem", timeout=5.0, options={"BACKEND": locmem}), message)
    assert (outcome.verdict, outcome.message_id) == (Verdict.ACCEPTED, "<1.1@example.com>")
    (sent,) = django_mail.outbox
    assert sent.recipients() == ["Ann <person1@example.com>"]
    written = sent.message()
    assert written["To"] == "Ann <person1@example.com>, bob@example.com"
    assert written["Cc"] == "carl@example.com"
    assert written["Reply-To"] == "help@example.com"
    assert written["Message-ID"] == "<1.1@example.com>"
    assert written["X-Notification-Id"] == "1"
    assert written["X-Shop"] == "7"


# -- SMTP through Django --------------------------------------------------------------------


def test_smtp_through_django_keeps_its_connection() -> None:
    with SmtpServer() as server:
        outcomes = send(smtp(server), *map(email, range(1, 6)))
        assert server.connections == 1
        assert server.deliveries == {str(number): 1 for number in range(1, 6)}
    assert all(outcome.accepted for outcome in outcomes)


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "CONTENT"])
@pytest.mark.parametrize(
    ("reply", "verdict", "theirs"),
    [
        ("451 4.7.1 later", Verdict.LATER, False),
        ("550 5.1.1 <person1@example.com> unknown", Verdict.PERMANENT, False),
        ("421 4.3.2 closing", Verdict.LATER, True),
        ("535 5.7.8 who are you", Verdict.HOLD, True),
    ],
)
def test_smtp_through_django_is_judged_by_code(
    stage: Any, reply: str, verdict: Verdict, theirs: bool
) -> None:
    with SmtpServer(rules=[Rule(stage, reply, times=1)]) as server:
        refused, accepted = send(smtp(server), email(1), email(2))
        assert server.deliveries == {"2": 1}
    assert (refused.verdict, refused.code, refused.theirs) == (verdict, reply[:3], theirs)
    assert "@" not in refused.text
    assert accepted.accepted


def test_smtp_through_django_that_cannot_begin_is_the_provider_s_trouble() -> None:
    options = {"BACKEND": SMTP, "host": "127.0.0.1", "port": find_free_port()}
    provider = DjangoEmail("smtp", timeout=5.0, options=options)
    with pytest.raises(ConnectionRefusedError) as caught:
        provider.connect()
    outcome = provider.judge(caught.value)
    assert (outcome.verdict, outcome.code, outcome.theirs) == (Verdict.LATER, "refused", True)


def test_a_wrong_password_for_smtp_through_django_holds_the_provider() -> None:
    with SmtpServer(users={"shop": "right"}) as server:
        provider = smtp(server, username="shop", password="wrong-password")
        with pytest.raises(Exception, match="535") as caught:
            provider.connect()
    outcome = provider.judge(caught.value)
    assert (outcome.verdict, outcome.code, outcome.theirs) == (Verdict.HOLD, "535", True)


@pytest.mark.parametrize("goodbye", ["421 4.4.2 idle for too long", ""])
def test_smtp_through_django_survives_an_idle_end(
    goodbye: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifications.providers.django_email.IDLE", 0.0)
    with SmtpServer() as server:
        session = smtp(server).connect()
        with closing(session):
            assert session.send(email(1)).accepted
            server.hang_up(goodbye)
            assert session.send(email(2)).accepted
        assert server.connections == 2
        assert server.deliveries == {"1": 1, "2": 1}


@pytest.mark.parametrize("then", ["close", "reset", "hang"])
def test_smtp_through_django_that_breaks_is_unknown_and_goes_on(then: Any) -> None:
    with SmtpServer(rules=[Rule("CONTENT", then=then, accept=True, times=1)]) as server:
        unknown, accepted = send(smtp(server, timeout=0.6), email(1), email(2))
        assert server.deliveries == {"1": 1, "2": 1}
    assert (unknown.verdict, unknown.theirs) == (Verdict.UNKNOWN, True)
    assert accepted.accepted


def test_abort_ends_smtp_through_django() -> None:
    with SmtpServer(rules=[Rule("CONTENT", then="drip")]) as server:
        session = smtp(server, timeout=60.0).connect()
        ended: list[Outcome] = []
        thread = threading.Thread(target=lambda: ended.append(session.send(email())), daemon=True)
        thread.start()
        until = time.monotonic() + 5
        while "data" not in server.commands:
            assert time.monotonic() < until
            time.sleep(0.005)
        session.abort()
        thread.join(5)
    assert not thread.is_alive()
    assert ended[0].verdict is Verdict.UNKNOWN


# -- set up ---------------------------------------------------------------------------------


def test_every_read_ends_before_its_call_does(server: SendGridServer) -> None:
    backend: Any = sendgrid(server, timeout=10.0).make_backend()
    assert backend.timeout == 9.0
    with override_settings(EMAIL_TIMEOUT=None):
        backend = DjangoEmail("smtp", timeout=10.0, options={"BACKEND": SMTP}).make_backend()
        assert backend.timeout == 9.0
    with override_settings(EMAIL_TIMEOUT=3, ANYMAIL={"REQUESTS_TIMEOUT": 2}):
        backend = DjangoEmail("smtp", timeout=10.0, options={"BACKEND": SMTP}).make_backend()
        assert backend.timeout == 3
        backend = sendgrid(server, timeout=10.0).make_backend()
        assert backend.timeout == 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"BACKEND": SENDGRID},
        {"BACKEND": "no.such.Backend"},
        {"BACKEND": SENDGRID, "api_key": "k", "username": "u"},
        {"BACKEND": f"{__name__}.Raising", "nonsense": 1},
    ],
    ids=str,
)
def test_a_wrong_set_up_holds_the_provider(options: dict[str, Any]) -> None:
    provider = DjangoEmail("own", timeout=5.0, options=options)
    with pytest.raises(Exception) as caught:
        provider.connect()
    outcome = provider.judge(caught.value)
    assert (outcome.verdict, outcome.code, outcome.theirs) == (Verdict.HOLD, "setup", True)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"BACKEND": SMTP}, ""),
        ({"BACKEND": SENDGRID, "api_key": "k"}, ""),
        ({}, "has no BACKEND"),
        ({"BACKEND": "no.such.Backend"}, "cannot be imported"),
        ({"BACKEND": "notifications.backends.QueuedEmailBackend"}, "queues"),
    ],
)
def test_options_are_checked(options: dict[str, Any], wrong: str) -> None:
    found = DjangoEmail("own", timeout=5.0, options=options).check()
    assert [each.id for each in found] == (["notifications.E052"] if wrong else [])
    assert all(wrong in each.msg for each in found)


# -- the server itself ----------------------------------------------------------------------

VALID: dict[str, Any] = {
    "personalizations": [{"to": [{"email": "a@example.com"}]}],
    "from": {"email": "b@example.com"},
    "subject": "s",
    "content": [{"type": "text/plain", "value": "t"}],
}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({}, None),
        ({"nonsense": 1}, "nonsense"),
        ({"personalizations": []}, "personalizations"),
        ({"personalizations": [{"to": []}]}, "personalizations.to"),
        ({"personalizations": [{"to": [{"email": "x"}]}]}, "personalizations.to.email"),
        (
            {"personalizations": [{"to": [{"email": "a@b.co"}], "cc": [{"email": "A@b.co"}]}]},
            "personalizations",
        ),
        ({"from": None}, "from"),
        ({"from": {"email": "a@b.co", "name": 1}}, "from.name"),
        ({"reply_to": {"email": "a@b.co"}, "reply_to_list": []}, "reply_to"),
        ({"reply_to_list": [{"mail": "x"}]}, "reply_to_list"),
        ({"subject": ""}, "subject"),
        ({"content": []}, "content"),
        ({"content": [{"type": "text/plain", "value": ""}]}, "content.value"),
        ({"content": [{"type": "text/plain\r\n", "value": "x"}]}, "content.type"),
        (
            {
                "content": [
                    {"type": "text/html", "value": "x"},
                    {"type": "text/plain", "value": "x"},
                ]
            },
            "content",
        ),
        ({"headers": {"Subject": "x"}}, "headers"),
        ({"headers": {"X": 1}}, "headers"),
        ({"custom_args": {"a": 1}}, "custom_args"),
        ({"custom_args": {"a": "x" * 10_001}}, "custom_args"),
        ({"categories": ["a"] * 2}, "categories"),
        ({"categories": ["x" * 256]}, "categories"),
        ({"attachments": [{"content": "?", "filename": "f"}]}, "attachments.content"),
        ({"attachments": [{"content": "", "type": "a/b"}]}, "attachments.filename"),
        (
            {"attachments": [{"content": "", "filename": "f", "disposition": "inline"}]},
            "attachments.content_id",
        ),
    ],
    ids=str,
)
def test_the_server_refuses_what_sendgrid_refuses(
    server: SendGridServer, changes: dict[str, Any], field: str | None
) -> None:
    found = [name for name, _message in find_errors(VALID | changes)]
    assert found[:1] == ([field] if field else [])
    answer = requests.post(
        f"{server.url}mail/send",
        json=VALID | changes,
        headers={"Authorization": f"Bearer {server.api_key}"},
        timeout=5,
    )
    assert answer.status_code == (400 if field else 202)
    assert ("X-Message-Id" in answer.headers) == (field is None)
    if field:
        assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("path", "headers", "data", "status"),
    [
        ("mail/send", {"Authorization": "Bearer wrong"}, b"{}", 401),
        ("mail/other", {}, b"{}", 404),
        ("mail/send", {"Content-Type": "text/plain"}, b"{}", 415),
        ("mail/send", {}, b"not JSON", 400),
        ("mail/send", {}, b'{"x": "%s"}' % (b"x" * 5000), 413),
    ],
)
def test_the_server_answers_as_sendgrid_does(
    path: str, headers: dict[str, str], data: bytes, status: int
) -> None:
    with SendGridServer(largest=4000) as server:
        usual = {"Authorization": f"Bearer {server.api_key}", "Content-Type": "application/json"}
        answer = requests.post(server.url + path, data=data, headers=usual | headers, timeout=5)
    assert answer.status_code == status
    assert answer.json()["errors"][0]["message"]


def test_waiting_in_vain_says_so(server: SendGridServer) -> None:
    with pytest.raises(TimeoutError, match="0 of 1"):
        server.wait_for(1, seconds=0.05)
