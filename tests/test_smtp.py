"""The SMTP provider against real servers: well-behaved, refusing, slow, hanging and broken ones."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from django.test import override_settings

from notifications.message import Attachment, Email, Outcome, Verdict
from notifications.providers.smtp import Smtp, SmtpSession
from notifications.senders import Call, Result, Senders
from notifications.testing.guarded import find_free_port
from notifications.testing.smtp_server import Rule, SmtpServer
from tests.certificates import Certificate, make_certificate
from tests.lanes import ScriptedLane

PASSWORD = "correct-horse-battery"


def email(number: int = 1, **changes: Any) -> Email:
    given: dict[str, Any] = {
        "id": number,
        "to": f"person{number}@example.com",
        "sender": "Shop <shop@example.com>",
        "subject": f"Order {number}",
        "text": "Hello\n",
        "html": "<p>Hello</p>\n",
        "message_id": f"<{number}.1@example.com>",
    }
    return Email(**(given | changes))


def provider(server: SmtpServer, *, timeout: float = 5.0, **options: Any) -> Smtp:
    return Smtp(
        "smtp", timeout=timeout, options={"HOST": server.host, "PORT": server.port} | options
    )


def send(server: SmtpServer, *messages: Email, **options: Any) -> ScriptedLane[Email]:
    """Send `messages` in one session."""
    lane = ScriptedLane(*messages)
    session = provider(server, **options).connect()
    session.work(lane)
    session.close()
    return lane


def verdicts(lane: ScriptedLane[Email]) -> dict[int, Verdict]:
    return {message.id: outcome.verdict for message, outcome in lane.outcomes}


@pytest.fixture(params=[True, False], ids=["pipelining", "step by step"])
def pipelining(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


# -- the good way ---------------------------------------------------------------------------


def test_mails_arrive_over_one_connection(pipelining: bool) -> None:
    with SmtpServer(pipelining=pipelining) as server:
        lane = send(server, *map(email, range(1, 31)))
        messages = server.wait_for(30)
        assert server.connections == 1
        assert server.early == 0
    assert set(verdicts(lane).values()) == {Verdict.ACCEPTED}
    assert [received.to for received in messages] == [
        f"person{n}@example.com" for n in range(1, 31)
    ]
    assert {received.sender for received in messages} == {"shop@example.com"}
    assert server.deliveries == {str(number): 1 for number in range(1, 31)}
    _message, outcome = lane.outcomes[0]
    assert (outcome.code, outcome.text, outcome.message_id) == (
        "250", "2.0.0 ok: queued", "<1.1@example.com>",
    )  # fmt: skip


def test_pipelining_costs_one_round_trip_a_mail() -> None:
    with SmtpServer() as server:
        send(server, *map(email, range(1, 101)))
        # Beside the mails: the greeting, EHLO, the first MAIL, QUIT and the end.
        assert server.waits <= 100 + 6
    with SmtpServer() as server:
        send(server, *map(email, range(1, 101)), PIPELINING=False)
        assert server.waits >= 400


def test_a_message_is_begun_right_before_its_content_goes(pipelining: bool) -> None:
    first, second = email(1), email(2)
    with SmtpServer(pipelining=pipelining) as server:
        lane = send(server, first, second)
    story = lane.story
    assert story.index(("begin", first)) < story.index(("report", first))
    assert story.index(("report", first)) < story.index(("begin", second))
    # The second is announced along with the content of the first.
    assert story.index(("take", second)) < story.index(("report", first))


@pytest.mark.parametrize(
    "text",
    [
        ".\n..\n.leading dot\nend.\n",
        "no line end",
        "x" * 5000,
        "Größe\n" * 50,
        "\n\n.\n\n",
        "a\r\n.\r\nb",
        "",
    ],
)
def test_content_arrives_as_it_is(text: str, pipelining: bool) -> None:
    html = f"<p>{text}</p>"
    with SmtpServer(pipelining=pipelining) as server:
        send(server, email(text=text, html=html))
        (received,) = server.wait_for(1)
    body = received.message.get_body(("html",))
    assert body is not None
    content = body.get_content().replace("\r\n", "\n").rstrip("\n")
    assert content == html.replace("\r\n", "\n")


def test_megabytes_arrive(pipelining: bool) -> None:
    content = bytes(range(256)) * 12_000
    big = email(attachments=(Attachment("big.bin", content),))
    with SmtpServer(pipelining=pipelining) as server:
        send(server, big, email(2))
        received, _after = server.wait_for(2)
    (attached,) = received.message.iter_attachments()
    assert attached.get_content() == content


class Keeper:
    """A handler for aiosmtpd, a server that others wrote."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.envelopes.append(envelope)
        return "250 OK"


@pytest.fixture
def aiosmtpd() -> Iterator[tuple[Controller, Keeper]]:
    keeper = Keeper()
    controller = Controller(keeper, hostname="127.0.0.1", port=find_free_port())
    controller.start()
    yield controller, keeper
    controller.stop(no_assert=True)


def test_a_server_of_others_understands_us(aiosmtpd: tuple[Controller, Keeper]) -> None:
    controller, keeper = aiosmtpd
    options = {"HOST": controller.hostname, "PORT": controller.port}
    session = Smtp("smtp", timeout=5.0, options=options).connect()
    mails = [
        email(n, subject="Grüße 日本", text=".\nÄ\n..\n", html="<p>Ä</p>") for n in range(1, 6)
    ]
    with closing(session):
        outcomes = [session.send(mail) for mail in mails]
    assert [outcome.verdict for outcome in outcomes] == [Verdict.ACCEPTED] * 5
    for mail, envelope in zip(mails, keeper.envelopes, strict=True):
        assert envelope.mail_from == "shop@example.com"
        assert envelope.rcpt_tos == [mail.to]
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=default)
        plain, html = message.iter_parts()
        assert message["Subject"] == "Grüße 日本"
        assert plain.get_content().replace("\r\n", "\n") == ".\nÄ\n..\n"
        assert html.get_content().strip() == "<p>Ä</p>"


def test_domains_beyond_ascii_are_written_as_servers_know_them() -> None:
    mail = email(to="ann@straße.example", sender="Laden <laden@bücher.example>")
    with SmtpServer() as server:
        send(server, mail)
        (received,) = server.wait_for(1)
    assert received.to == "ann@xn--strae-oqa.example"
    assert received.sender == "laden@xn--bcher-kva.example"


# -- answers --------------------------------------------------------------------------------

ANSWERS = [
    ("450 4.2.1 mailbox busy", Verdict.LATER, False),
    ("451 4.7.1 greylisted", Verdict.LATER, False),
    ("452 4.2.2 full", Verdict.LATER, False),
    ("452 4.3.1 no room left", Verdict.LATER, True),
    ("451-4.3.0 the table\r\n451 4.3.0 is broken", Verdict.LATER, True),
    ("450 4.3.2 not open yet", Verdict.LATER, True),
    ("451 4.7.1 4.3.0 is no code here", Verdict.LATER, False),
    ("550 5.1.1 no such user", Verdict.PERMANENT, False),
    ("552 5.3.4 too big", Verdict.PERMANENT, False),
    ("554 5.7.1 spam", Verdict.PERMANENT, False),
    ("530 5.7.0 log in first", Verdict.HOLD, True),
    ("535 5.7.8 who are you", Verdict.HOLD, True),
]


@pytest.mark.parametrize(("reply", "verdict", "theirs"), ANSWERS, ids=[row[0] for row in ANSWERS])
@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "CONTENT"])
def test_an_answer_is_judged_by_its_code(
    stage: Any, reply: str, verdict: Verdict, theirs: bool, pipelining: bool
) -> None:
    rule = Rule(stage, reply, after=1, times=1)
    with SmtpServer(rules=[rule], pipelining=pipelining) as server:
        lane = send(server, *map(email, range(1, 5)))
        assert server.connections == 1
        assert [received.notification_id for received in server.messages] == ["1", "3", "4"]
    assert verdicts(lane) == {
        1: Verdict.ACCEPTED, 2: verdict, 3: Verdict.ACCEPTED, 4: Verdict.ACCEPTED,
    }  # fmt: skip
    outcome = next(outcome for message, outcome in lane.outcomes if message.id == 2)
    assert (outcome.code, outcome.theirs) == (reply[:3], theirs)
    assert outcome.text == " ".join(line[4:] for line in reply.split("\r\n"))
    assert lane.begun(email(2)) == (stage == "CONTENT")


def test_a_refused_recipient_gets_a_lone_dot_where_the_server_waits_for_content() -> None:
    rules = [Rule("RCPT", "550 5.1.1 no such user", match="person2@*"), Rule("DATA", "354 go on")]
    with SmtpServer(rules=rules) as server:
        lane = send(server, *map(email, (1, 2, 3)))
        assert [received.notification_id for received in server.messages] == ["1", "3"]
        assert server.connections == 1
    assert verdicts(lane) == {1: Verdict.ACCEPTED, 2: Verdict.PERMANENT, 3: Verdict.ACCEPTED}
    assert not lane.begun(email(2))


def test_a_refused_recipient_as_the_last_leaves_no_open_content() -> None:
    rules = [Rule("RCPT", "550 5.1.1 no such user"), Rule("DATA", "354 go on")]
    with SmtpServer(rules=rules) as server:
        lane = send(server, email())
        assert server.commands[-1] == "QUIT"
        assert server.messages == []
    assert lane.outcome.verdict is Verdict.PERMANENT


def test_all_lines_of_an_answer_are_read() -> None:
    reply = "550-5.1.1 first\r\n550-5.1.1 second\r\n550 5.1.1 third"
    with SmtpServer(rules=[Rule("RCPT", reply, times=1)]) as server:
        lane = send(server, email(1), email(2))
    assert lane.outcomes[0][1].text == "5.1.1 first 5.1.1 second 5.1.1 third"
    assert lane.outcomes[1][1].accepted


@pytest.mark.parametrize(
    "reply",
    [
        "550 5.1.1 <person1@example.com>: no such user",
        "550 PERSON1@EXAMPLE.COM unknown, ask postmaster@example.org",
        "550 sorry,person1@example.com,see https://example.org/?q=person1@example.com",
    ],
)
def test_no_address_stays_in_the_text(reply: str) -> None:
    with SmtpServer(rules=[Rule("RCPT", reply)]) as server:
        lane = send(server, email())
    assert "@" not in lane.outcome.text
    assert "person1" not in lane.outcome.text.lower()
    assert "<address>" in lane.outcome.text


def test_what_is_too_large_for_the_server_is_not_sent() -> None:
    with SmtpServer(size=2000) as server:
        lane = send(server, email(1, text="x" * 5000), email(2))
        assert [received.notification_id for received in server.messages] == ["2"]
    _message, outcome = lane.outcomes[0]
    assert (outcome.verdict, outcome.code, outcome.theirs) == (
        Verdict.PERMANENT, "too_large", True,
    )  # fmt: skip
    assert any(command.startswith("MAIL") and "SIZE=" in command for command in server.commands)


def test_what_cannot_be_written_fails_alone() -> None:
    with SmtpServer() as server:
        lane = send(
            server, email(1, subject="a\r\nBcc: eve@example.com"), email(2), email(3, to="x")
        )
        assert [received.notification_id for received in server.messages] == ["2"]
    assert verdicts(lane) == {1: Verdict.PERMANENT, 2: Verdict.ACCEPTED, 3: Verdict.PERMANENT}
    assert not any("eve" in command for command in server.commands)


# -- log in and TLS -------------------------------------------------------------------------


@pytest.mark.parametrize("methods", ["PLAIN", "LOGIN", "LOGIN PLAIN"])
def test_it_logs_in(methods: str) -> None:
    with SmtpServer(users={"shop": PASSWORD}, auth_methods=methods) as server:
        lane = send(server, email(), USER="shop", PASSWORD=PASSWORD)
    assert lane.outcome.accepted


def test_a_wrong_password_holds_the_provider() -> None:
    with SmtpServer(users={"shop@example.com": "other"}) as server:
        lane = send(server, email(), USER="shop@example.com", PASSWORD=PASSWORD)
    outcome = lane.outcome
    assert (outcome.verdict, outcome.code, outcome.theirs) == (Verdict.HOLD, "535", True)
    assert "@" not in outcome.text
    assert PASSWORD not in repr(outcome)
    assert not lane.begun(email())


@pytest.mark.parametrize(
    ("rules", "verdict", "code"),
    [
        ([Rule("AUTH", "454 4.7.0 later")], Verdict.LATER, "454"),
        ([Rule("AUTH", "534 5.7.9 too weak")], Verdict.HOLD, "534"),
        ([Rule("CONNECT", "421 too busy")], Verdict.LATER, "421"),
        ([Rule("CONNECT", "554 go away")], Verdict.HOLD, "554"),
        ([Rule("CONNECT", then="close")], Verdict.LATER, "disconnected"),
        ([Rule("CONNECT", then="reset")], Verdict.LATER, "disconnected"),
        ([Rule("CONNECT", "HTTP/1.1 400 Bad Request")], Verdict.LATER, "disconnected"),
        ([Rule("EHLO", "421 closing")], Verdict.LATER, "421"),
        ([Rule("EHLO", then="close")], Verdict.LATER, "disconnected"),
        ([Rule("MAIL", "421 closing")], Verdict.LATER, "421"),
        ([Rule("RCPT", "421 closing")], Verdict.LATER, "421"),
        ([Rule("DATA", "421 closing")], Verdict.LATER, "421"),
        ([Rule("MAIL", then="close")], Verdict.LATER, "disconnected"),
        ([Rule("RCPT", then="reset")], Verdict.LATER, "disconnected"),
        ([Rule("DATA", "not SMTP at all")], Verdict.LATER, "protocol"),
        ([Rule("CONTENT", "421 closing")], Verdict.LATER, "421"),
    ],
    ids=str,
)
def test_trouble_before_the_content_is_theirs_and_can_go_again(
    rules: list[Rule], verdict: Verdict, code: str, pipelining: bool
) -> None:
    users = {"shop": PASSWORD}
    with SmtpServer(rules=rules, users=users, pipelining=pipelining) as server:
        lane = send(server, email(), USER="shop", PASSWORD=PASSWORD)
        assert server.messages == []
    outcome = next(outcome for _message, outcome in lane.outcomes)
    assert (outcome.verdict, outcome.theirs) == (verdict, True)
    assert len(lane.outcomes) == 1


def test_nobody_there_can_go_again() -> None:
    options = {"HOST": "127.0.0.1", "PORT": find_free_port()}
    outcome = Smtp("smtp", timeout=5.0, options=options).connect().send(email())
    assert (outcome.verdict, outcome.code, outcome.theirs) == (Verdict.LATER, "refused", True)


def test_an_unknown_host_can_go_again() -> None:
    options = {"HOST": "no-such-host.invalid", "PORT": 25}
    outcome = Smtp("smtp", timeout=5.0, options=options).connect().send(email())
    assert (outcome.verdict, outcome.code, outcome.theirs) == (Verdict.LATER, "dns", True)


@pytest.mark.parametrize("implicit", [True, False], ids=["from the start", "STARTTLS"])
def test_it_sends_over_tls(certificate: Certificate, implicit: bool) -> None:
    server = SmtpServer(tls=certificate.context(), implicit_tls=implicit, users={"shop": PASSWORD})
    options = {"USE_SSL": True} if implicit else {"USE_TLS": True}
    with server:
        lane = send(
            server,
            *map(email, range(1, 6)),
            CAFILE=certificate.authority,
            USER="shop",
            PASSWORD=PASSWORD,
            **options,
        )
        assert len(server.messages) == 5
        assert server.connections == 1
    assert set(verdicts(lane).values()) == {Verdict.ACCEPTED}


@pytest.mark.parametrize("implicit", [True, False], ids=["from the start", "STARTTLS"])
def test_a_server_that_is_not_who_it_says_gets_nothing(
    certificate: Certificate, implicit: bool
) -> None:
    server = SmtpServer(tls=certificate.context(), implicit_tls=implicit, users={"s": PASSWORD})
    options = {"USE_SSL": True} if implicit else {"USE_TLS": True}
    with server:
        lane = send(server, email(), USER="s", PASSWORD=PASSWORD, **options)
        assert not any("AUTH" in command for command in server.commands)
    assert (lane.outcome.verdict, lane.outcome.code) == (Verdict.LATER, "tls")
    assert lane.outcome.theirs


def test_a_server_without_starttls_gets_no_password() -> None:
    with SmtpServer(users={"shop": PASSWORD}) as server:
        lane = send(server, email(), USE_TLS=True, USER="shop", PASSWORD=PASSWORD)
        assert not any("AUTH" in command for command in server.commands)
    assert (lane.outcome.verdict, lane.outcome.code) == (Verdict.LATER, "no_tls")


def test_a_server_without_log_in_holds_the_provider() -> None:
    with SmtpServer() as server:
        lane = send(server, email(), USER="shop", PASSWORD=PASSWORD)
    assert (lane.outcome.verdict, lane.outcome.code) == (Verdict.HOLD, "no_auth")


# -- broken connections ---------------------------------------------------------------------


@pytest.mark.parametrize("accept", [True, False], ids=["accepted", "not accepted"])
@pytest.mark.parametrize("then", ["close", "reset", "hang"])
def test_silence_after_the_content_is_unknown(then: Any, accept: bool, pipelining: bool) -> None:
    rule = Rule("CONTENT", then=then, accept=accept, times=1)
    with SmtpServer(rules=[rule], pipelining=pipelining) as server:
        lane = send(server, *map(email, (1, 2, 3)), TIMEOUT=0.5)
        server.wait_for(2 + accept)
        assert server.connections == 2
        assert server.deliveries == ({"1": 1} if accept else {}) | {"2": 1, "3": 1}
    assert verdicts(lane) == {1: Verdict.UNKNOWN, 2: Verdict.ACCEPTED, 3: Verdict.ACCEPTED}
    # The second was announced over the connection that broke: it went back, unharmed.
    assert lane.story.count(("give back", email(2))) == 1
    assert lane.story.count(("begin", email(2))) == 1


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
def test_silence_before_the_content_can_go_again(stage: Any, pipelining: bool) -> None:
    with SmtpServer(rules=[Rule(stage, then="hang", times=1)], pipelining=pipelining) as server:
        lane = send(server, email(1), email(2), TIMEOUT=0.5)
        assert server.deliveries == {"2": 1}
    outcome = {message.id: outcome for message, outcome in lane.outcomes}[1]
    assert (outcome.verdict, outcome.code, outcome.theirs) == (Verdict.LATER, "timeout", True)
    assert not lane.begun(email(1))


@pytest.mark.parametrize("goodbye", ["421 4.4.2 idle for too long", ""])
def test_a_connection_that_idled_to_death_costs_no_attempt(goodbye: str, pipelining: bool) -> None:
    with SmtpServer(pipelining=pipelining) as server:
        session = provider(server).connect()
        with closing(session):
            assert session.send(email(1)).accepted
            server.hang_up(goodbye)
            assert session.send(email(2)).accepted
        assert server.connections == 2
        assert server.deliveries == {"1": 1, "2": 1}


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("reply", ["421 4.7.0 enough for one connection", ""])
def test_a_server_that_wants_few_mails_a_connection_gets_them_so(
    stage: Any, reply: str, pipelining: bool
) -> None:
    rule = Rule(stage, reply, after=2, times=1, then="close")
    with SmtpServer(rules=[rule], pipelining=pipelining) as server:
        lane = send(server, *map(email, range(1, 6)))
        assert server.deliveries == {str(number): 1 for number in range(1, 6)}
        assert server.connections == 2
    assert set(verdicts(lane).values()) == {Verdict.ACCEPTED}


def test_a_mail_that_always_breaks_the_connection_is_reported() -> None:
    rule = Rule("RCPT", match="person2@*", then="close")
    with SmtpServer(rules=[rule]) as server:
        lane = send(server, *map(email, (1, 2, 3)))
        assert server.deliveries == {"1": 1, "3": 1}
    assert verdicts(lane) == {1: Verdict.ACCEPTED, 2: Verdict.LATER, 3: Verdict.ACCEPTED}


def test_an_accepted_mail_counts_although_the_connection_breaks_next() -> None:
    rules = [Rule("MAIL", "", after=1, times=1, then="reset")]
    with SmtpServer(rules=rules) as server:
        lane = send(server, email(1), email(2))
        assert server.deliveries == {"1": 1, "2": 1}
    assert set(verdicts(lane).values()) == {Verdict.ACCEPTED}


def test_a_server_that_comes_back_gets_the_rest() -> None:
    with SmtpServer() as server:
        session = provider(server).connect()
        with closing(session):
            assert session.send(email(1)).accepted
            server.stop()
            down = session.send(email(2))
            assert (down.verdict, down.code) == (Verdict.LATER, "refused")
            server.start()
            assert session.send(email(2)).accepted
    assert server.deliveries == {"1": 1, "2": 1}


def test_closing_says_goodbye() -> None:
    with SmtpServer() as server:
        send(server, email())
        assert server.commands[-1] == "QUIT"


def test_a_server_that_does_not_answer_goodbye_holds_nobody_up() -> None:
    with SmtpServer(rules=[Rule("QUIT", then="hang")]) as server:
        session = provider(server).connect()
        session.send(email())
        began = time.monotonic()
        session.close()
        assert time.monotonic() - began < 2


# -- time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["hang", "drip"])
@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "CONTENT"])
def test_abort_ends_a_call_from_another_thread(stage: Any, then: Any) -> None:
    with SmtpServer(rules=[Rule(stage, then=then)]) as server:
        session = provider(server, timeout=60.0).connect()
        ended: list[Outcome] = []
        thread = threading.Thread(target=lambda: ended.append(session.send(email())), daemon=True)
        thread.start()
        wait_until(lambda: server.connections == 1 and in_stage(server, stage))
        session.abort()
        thread.join(5)
    assert not thread.is_alive()
    expected = Verdict.UNKNOWN if stage == "CONTENT" else Verdict.LATER
    assert [outcome.verdict for outcome in ended] == [expected]


def test_abort_ends_a_call_under_tls(certificate: Certificate) -> None:
    rules = [Rule("CONTENT", then="hang")]
    with SmtpServer(rules=rules, tls=certificate.context(), implicit_tls=True) as server:
        options = {"USE_SSL": True, "CAFILE": certificate.authority}
        session = provider(server, timeout=60.0, **options).connect()
        ended: list[Outcome] = []
        thread = threading.Thread(target=lambda: ended.append(session.send(email())), daemon=True)
        thread.start()
        wait_until(lambda: "DATA" in server.commands)
        session.abort()
        thread.join(5)
    assert not thread.is_alive()
    assert ended[0].verdict in (Verdict.UNKNOWN, Verdict.LATER)


def in_stage(server: SmtpServer, stage: str) -> bool:
    command = {"CONNECT": "", "CONTENT": "DATA"}.get(stage, stage)
    return not command or any(each.upper().startswith(command) for each in server.commands)


def wait_until(condition: Callable[[], bool], *, seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("stage", "verdict"), [("CONTENT", Verdict.UNKNOWN), ("RCPT", Verdict.LATER)]
)
def test_a_dripping_server_has_the_time_of_one_call(stage: Any, verdict: Verdict) -> None:
    with SmtpServer(rules=[Rule(stage, then="drip", times=1)]) as server:
        results: SimpleQueue[Result | None] = SimpleQueue()
        senders = Senders(provider(server, timeout=0.5), lanes=1, results=results)
        began = time.monotonic()
        for number in (1, 2):
            senders.submit(Call(None, None, email(number), senders.provider))
        found: dict[int, Outcome] = {}
        while len(found) < 2:
            assert time.monotonic() - began < 5
            senders.watch()
            if not results.empty():
                result = results.get()
                assert result is not None
                found[result.call.message.id] = result.outcome
        senders.close()
    assert found[1].verdict is verdict
    assert found[2].accepted
    assert server.deliveries == {"2": 1}


def test_five_lanes_share_a_backlog() -> None:
    with SmtpServer(latency=0.01) as server:
        results: SimpleQueue[Result | None] = SimpleQueue()
        senders = Senders(provider(server), lanes=5, results=results)
        for number in range(1, 101):
            senders.submit(Call(None, None, email(number), senders.provider))
        outcomes = [results.get(timeout=10) for _ in range(100)]
        senders.close()
        assert server.connections <= 5
        assert server.deliveries == {str(number): 1 for number in range(1, 101)}
    assert all(result is not None and result.outcome.accepted for result in outcomes)


def test_lanes_that_looked_ahead_still_see_the_end() -> None:
    """The end of a lane is not lost to a look ahead that does not wait for it."""
    with SmtpServer() as server:
        results: SimpleQueue[Result | None] = SimpleQueue()
        senders = Senders(provider(server), lanes=3, results=results)
        for number in range(1, 31):
            senders.submit(Call(None, None, email(number), senders.provider))
        threads = [lane.thread for lane in senders._lanes]
        senders.close()
        for thread in threads:
            thread.join(5)
        assert not any(thread.is_alive() for thread in threads)
    assert results.qsize() == 30


# -- settings -------------------------------------------------------------------------------


def test_django_s_own_settings_are_the_defaults_and_read_live() -> None:
    smtp = Smtp("smtp", timeout=10.0, options={})
    with SmtpServer(users={"ann": "secret"}) as server:
        with override_settings(
            EMAIL_HOST=server.host,
            EMAIL_PORT=server.port,
            EMAIL_HOST_USER="ann",
            EMAIL_HOST_PASSWORD="secret",
            EMAIL_TIMEOUT=3,
        ):
            assert smtp.read_options().timeout == 3
            assert smtp.connect().send(email()).accepted
        with override_settings(EMAIL_HOST="127.0.0.1", EMAIL_PORT=find_free_port()):
            assert smtp.connect().send(email()).code == "refused"


@override_settings(EMAIL_TIMEOUT=None)
def test_a_read_always_ends_before_its_call_does() -> None:
    assert Smtp("smtp", timeout=10.0, options={}).read_options().timeout == 9.0
    assert Smtp("smtp", timeout=10.0, options={"TIMEOUT": 60}).read_options().timeout == 9.0


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, []),
        ({"HOST": "mail.example.com", "USE_TLS": True, "USE_SSL": False}, []),
        ({"HOSTNAME": "x"}, ["notifications.E050"]),
        ({"USE_TLS": True, "USE_SSL": True}, ["notifications.E051"]),
    ],
)
def test_options_are_checked(options: dict[str, Any], ids: list[str]) -> None:
    assert [found.id for found in Smtp("smtp", timeout=5.0, options=options).check()] == ids


def test_an_unforeseen_error_is_unknown() -> None:
    outcome = Smtp("smtp", timeout=5.0, options={}).judge(ZeroDivisionError("oops"))
    assert (outcome.verdict, outcome.error) == (Verdict.UNKNOWN, "ZeroDivisionError")


def test_the_session_is_what_the_senders_expect() -> None:
    assert isinstance(Smtp("smtp", timeout=5.0, options={}).connect(), SmtpSession)


# -- the server itself ----------------------------------------------------------------------


def test_caught_mail_lies_in_a_folder(tmp_path: Path) -> None:
    with SmtpServer(folder=tmp_path / "mail") as server:
        send(server, email(1), email(2))
    files = sorted((tmp_path / "mail").iterdir())
    assert [file.name for file in files] == ["000001.eml", "000002.eml"]
    caught = message_from_bytes(files[1].read_bytes(), policy=default)
    assert (caught["X-Caught-For"], caught["Subject"]) == ("person2@example.com", "Order 2")


def test_the_server_tells_of_each_message() -> None:
    seen: list[str] = []
    with SmtpServer(on_message=lambda received: seen.append(received.notification_id)) as server:
        send(server, email(5))
    assert seen == ["5"]


def test_the_server_notices_commands_that_come_too_early() -> None:
    with SmtpServer(pipelining=False) as server:
        with socket.create_connection((server.host, server.port)) as sock:
            sock.sendall(b"EHLO me\r\nMAIL FROM:<a@example.com>\r\nQUIT\r\n")
            while sock.recv(1000):
                pass
        assert server.early > 0


def test_waiting_in_vain_says_so() -> None:
    with SmtpServer() as server, pytest.raises(TimeoutError, match="0 of 1"):
        server.wait_for(1, seconds=0.05)
