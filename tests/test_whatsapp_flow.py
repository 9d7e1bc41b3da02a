"""WhatsApp all the way: a row, a worker, real HTTP, and what becomes of the row."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.core import serializers
from django.db import transaction
from django.utils import timezone

from notifications import conf, holds, jobs
from notifications.dispatch import send_whatsapp
from notifications.message import Fate, Report
from notifications.models import Attempt, DeadLetter, Hold, Notification, State
from notifications.providers.base import Callback
from notifications.testing.whatsapp_server import Answer, WhatsAppServer
from tests.test_whatsapp_cloud import BUSY, HOLD, LATER, PERMANENT
from tests.whatsapp import PHONE, NewsKind, ask, running

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server() -> Iterator[WhatsAppServer]:
    with running() as server:
        yield server


def deliver(row: Notification) -> Notification:
    jobs.deliver_whatsapp(row.pk)
    row.refresh_from_db()
    return row


def send(template: str, *params: Any, **options: Any) -> Notification:
    with transaction.atomic():
        return send_whatsapp(PHONE, template, *params, language="en_US", **options)[0]


def seconds_until_due(row: Notification) -> float:
    return (row.due_at - timezone.now()).total_seconds()


def open_holds() -> list[tuple[str, str]]:
    return list(Hold.objects.filter(lifted_at=None).values_list("scope", "name"))


def test_an_accepted_message_keeps_its_wamid(server: WhatsAppServer) -> None:
    row = deliver(ask())
    (message,) = server.wait_for(1)
    assert (row.state, row.attempts) == (State.SENT, 1)
    assert message.text == "Hello Ada, your order 7K2M-Q9XA costs 1234.50."
    assert (message.to, message.data) == (PHONE, str(row.pk))
    assert Attempt.objects.get().message_id == message.id


def test_the_queue_is_served_by_name(server: WhatsAppServer) -> None:
    rows = [ask(f"+120255501{number:02}") for number in range(12)]
    jobs.deliver_whatsapp()
    assert {row.state for row in Notification.objects.all()} == {State.SENT}
    assert server.deliveries == {str(row.pk): 1 for row in rows}
    assert server.connections <= conf.channel("whatsapp").concurrency


# -- every code -----------------------------------------------------------------------------


@pytest.mark.parametrize("code", LATER)
def test_what_passes_goes_again_after_the_usual_wait(server: WhatsAppServer, code: int) -> None:
    server.answers = [Answer(code=code, details="busy", times=1)]
    row = deliver(ask())
    assert (row.state, row.attempts) == (State.PENDING, 1)
    assert 0 < seconds_until_due(row) <= 2
    assert row.reason.startswith(str(code))
    assert (open_holds(), DeadLetter.objects.count()) == ([], 0)
    assert deliver(row).state == State.SENT


@pytest.mark.parametrize(("code", "wait"), BUSY.items())
def test_too_many_calls_hold_the_provider_for_as_long_as_it_asks(
    server: WhatsAppServer, code: int, wait: float
) -> None:
    server.answers = [Answer(code=code, times=1)]
    row = ask()
    jobs.deliver_whatsapp()
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.PENDING, 0)
    assert row.reason.startswith(str(code))
    held = Hold.objects.get()
    assert (held.name, held.cause) == ("whatsapp_cloud", "asked")
    assert held.until is not None
    assert wait - 1 < (held.until - timezone.now()).total_seconds() <= wait


@pytest.mark.parametrize(("code", "wait", "attempts"), [(131056, 6, 0), (131049, 24 * 3600, 1)])
def test_what_is_too_much_for_one_person_waits_for_that_person_alone(
    server: WhatsAppServer, code: int, wait: int, attempts: int
) -> None:
    server.answers = [Answer(code=code, match=PHONE)]
    row, other = ask(), ask("+12025550124")
    jobs.deliver_whatsapp()
    row.refresh_from_db()
    other.refresh_from_db()
    assert (row.state, row.attempts, other.state) == (State.PENDING, attempts, State.SENT)
    assert wait - 5 < seconds_until_due(row) <= wait
    assert row.reason.startswith(str(code))
    assert open_holds() == []


@pytest.mark.parametrize("code", HOLD)
def test_what_stops_everything_holds_the_provider_and_burns_nothing(
    server: WhatsAppServer, code: int
) -> None:
    server.answers = [Answer(code=code, details="locked")]
    rows = [ask(), ask(kind=NewsKind)]
    jobs.deliver_whatsapp()
    for row in rows:
        row.refresh_from_db()
        assert (row.state, row.attempts) == (State.PENDING, 0)
        assert seconds_until_due(row) <= 0
    assert open_holds() == [("provider", "whatsapp_cloud")]
    held = Hold.objects.get()
    assert held.reason.startswith(str(code))
    assert held.until is not None
    seen = len(server.requests)
    jobs.deliver_whatsapp()
    assert len(server.requests) == seen, "nothing is tried while it is held"
    server.answers = []
    holds.lift(Hold.Scope.PROVIDER, "whatsapp_cloud")
    jobs.deliver_whatsapp()
    assert set(Notification.objects.values_list("state", flat=True)) == {"sent"}


@pytest.mark.parametrize("code", [132015, 132069])
def test_a_paused_template_holds_the_messages_of_its_kind_alone(
    server: WhatsAppServer, code: int
) -> None:
    server.answers = [Answer(code=code, match="test_order")]
    row = ask()
    jobs.deliver_whatsapp()
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.PENDING, 0)
    assert row.reason.startswith(str(code))
    assert open_holds() == [("template", "whatsapp/test_whatsapp_order")]
    held = Hold.objects.get()
    assert held.until is not None
    assert 0 < (held.until - timezone.now()).total_seconds() <= 1800
    seen = len(server.requests)
    other = ask(kind=NewsKind)
    jobs.deliver_whatsapp()
    other.refresh_from_db()
    assert other.state == State.SENT
    assert len(server.requests) == seen + 1
    server.answers = []
    holds.lift(Hold.Scope.TEMPLATE, "whatsapp/test_whatsapp_order")
    assert seconds_until_due(row) <= 300  # the one that found out; all others are due at once
    assert deliver(row).state == State.SENT


def test_a_paused_template_without_a_kind_waits_by_itself(server: WhatsAppServer) -> None:
    server.answers = [Answer(code=132015)]
    row = send("test_news")
    deliver(row)
    assert (row.state, row.attempts) == (State.PENDING, 0)
    assert 290 < seconds_until_due(row) <= 300
    assert open_holds() == []


def test_who_has_opted_out_is_no_matter_for_a_person(server: WhatsAppServer) -> None:
    server.answers = [Answer(code=131050)]
    row = deliver(ask())
    assert (row.state, row.attempts) == (State.SUPPRESSED, 1)
    assert not DeadLetter.objects.exists()


@pytest.mark.parametrize("code", PERMANENT)
def test_what_will_never_do_is_dead_at_once(server: WhatsAppServer, code: int) -> None:
    server.answers = [Answer(code=code, details="never")]
    row = deliver(ask())
    assert (row.state, row.attempts) == (State.DEAD, 1)
    assert row.reason.startswith(f"{code} ")
    letter = DeadLetter.objects.get()
    assert letter.code == str(code)
    assert "never" in letter.reason
    assert open_holds() == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(status=500), "500"),
        (Answer(status=200, body="<html>"), "200"),
        (Answer(then="reset", accept=True), "disconnected"),
        (Answer(then="close"), "disconnected"),
        (Answer(then="hang", accept=True), "timeout"),
        (Answer(then="drip"), "deadline"),
    ],
)
def test_what_is_lost_goes_again(server: WhatsAppServer, answer: Answer, code: str) -> None:
    answer.times = 1
    server.answers = [answer]
    row = deliver(ask())
    assert (row.state, row.attempts) == (State.PENDING, 1)
    assert 0 < seconds_until_due(row) <= 2
    assert Attempt.objects.get().code == code
    assert deliver(row).state == State.SENT


def test_retries_end_in_a_dead_letter(server: WhatsAppServer) -> None:
    server.answers = [Answer(code=131049)]
    row = ask()
    for _each in range(4):
        deliver(row)
    assert (row.state, row.attempts) == (State.DEAD, 4)
    assert "attempt 4 of 4" in row.reason


def test_an_expired_message_is_not_kept_for_a_day(server: WhatsAppServer) -> None:
    server.answers = [Answer(code=131049)]
    row = deliver(ask(expires_after=timedelta(hours=1)))
    assert row.state == State.EXPIRED


# -- without a kind -------------------------------------------------------------------------


def test_a_template_without_a_kind_is_sealed_and_erased(server: WhatsAppServer) -> None:
    row = send("test_order", ["Ada", "7K2M-Q9XA", "€12.50"], priority=1)
    assert row.content is not None
    assert b"Ada" not in bytes(row.content)
    deliver(row)
    assert (row.state, row.kind, row.priority) == (State.SENT, "", 1)
    assert row.content is None
    assert server.accepted[0].text == "Hello Ada, your order 7K2M-Q9XA costs €12.50."


def test_named_parameters_and_buttons_without_a_kind(server: WhatsAppServer) -> None:
    row = send("test_named", {"name": "Ada"}, header={"number": "7"}, buttons=["7"])
    assert deliver(row).state == State.SENT
    assert server.accepted[0].text == "Order 7\nHello Ada."


# -- nothing private stays ------------------------------------------------------------------


def test_token_words_and_phone_are_in_no_log_and_no_row(
    server: WhatsAppServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    private = {"name": "Canary Lovelace", "number": "CANARY-77", "total": 4711.25}
    spoken = f"{server.token} Canary Lovelace CANARY-77 4711.25 {PHONE}"
    for answer in (
        Answer(code=131009, details=spoken),
        Answer(code=132012, details=spoken, subcode=1),
        Answer(code=131042, details=spoken),
        Answer(status=200, body=spoken),
        Answer(then="reset"),
        Answer(then="hang"),
    ):
        server.answers = [answer]
        holds.lift(Hold.Scope.PROVIDER, "whatsapp_cloud")
        deliver(ask(context=private))
    server.answers = []
    deliver(ask(context=private))
    stored = [*Attempt.objects.all(), *DeadLetter.objects.all(), *Hold.objects.all()]
    rows = json.loads(serializers.serialize("json", Notification.objects.all()))
    for row in rows:
        del row["fields"]["context"]  # facts that the shop gave: here they stay
        assert row["fields"].pop("to") == PHONE
    everything = "\n".join([caplog.text, serializers.serialize("json", stored), json.dumps(rows)])
    assert len(stored) >= 8
    for canary in (server.token, "Lovelace", "CANARY-77", "4711", "2025550123"):
        assert canary not in everything


# -- reports --------------------------------------------------------------------------------


class Hook:
    """A web server that takes callbacks, as the shop's would."""

    def __init__(self) -> None:
        self.taken: list[Callback] = []
        self.statuses: list[int] = []  # to answer first
        self.arrived = threading.Condition()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with hook.arrived:
                    status = hook.statuses.pop(0) if hook.statuses else 200
                    if status == 200:
                        hook.taken.append(Callback("POST", hook.url, headers, {}, body))
                    hook.arrived.notify_all()
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Hook:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for(self, count: int) -> list[Report]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.taken) >= count, timeout=10)
            (provider,) = conf.channel("whatsapp").providers
            reports: list[Report] = []
            for callback in self.taken:
                received = provider.receive(callback)
                assert not isinstance(received, str)
                reports += received
            return reports


def test_messages_are_reported_as_sent_delivered_and_read() -> None:
    with Hook() as hook:
        hook.statuses = [503]  # the shop is busy: it comes again
        with running(callback_url=hook.url, delivered_after=0.05, read_after=0.1) as server:
            row = deliver(ask())
            reports = hook.wait_for(3)
            assert set(server.reporter.answers) == {503, 200}
    assert {report.fate for report in reports} == {Fate.SENT, Fate.DELIVERED, Fate.READ}
    assert {report.notification_id for report in reports} == {row.pk}
    assert {report.message_id for report in reports} == {Attempt.objects.get().message_id}


def test_a_failure_can_follow_the_acceptance() -> None:
    with Hook() as hook:
        answers = [Answer(accept=True, fails=131026)]
        with running(callback_url=hook.url, answers=answers, delivered_after=0.05):
            row = deliver(ask())
            reports = hook.wait_for(2)
    assert row.state == State.SENT
    failed = next(report for report in reports if report.fate is Fate.FAILED)
    assert (failed.code, failed.notification_id) == ("131026", row.pk)


def test_reports_to_nobody_are_given_up() -> None:
    with running(callback_url="http://127.0.0.1:1/", delivered_after=0.0, read_after=None) as it:
        deliver(ask())
        done = threading.Event()
        while not done.wait(0.02):
            if len(it.reporter.answers) >= 3:
                done.set()
        assert set(it.reporter.answers) == {0}
