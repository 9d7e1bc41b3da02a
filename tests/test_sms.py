"""SMS all the way: a row, a worker, Twilio's API over real HTTP, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.checks import CheckMessage
from django.db import transaction
from django.db.models.functions import Now
from django.test import override_settings
from django.utils import timezone

from notifications import conf, erasure, holds, jobs, lookups, receipts
from notifications import notifications as tasks
from notifications.channels.sms import SmsChannel, count_segments
from notifications.dispatch import notify
from notifications.errors import BadCallback, Forged, InvalidMessage, NotConfigured
from notifications.kinds import Kind
from notifications.message import Fate, Verdict
from notifications.models import Attempt, Hold, Notification, State, Suppression
from notifications.providers import twilio, twilio_replies
from notifications.providers.base import Callback
from notifications.providers.twilio import Twilio
from notifications.testing.twilio_server import Accepted, Answer, TwilioServer, sign
from tests.mail_templates import use_templates

pytestmark = pytest.mark.django_db(transaction=True)

PHONE = "+12025550123"
HOOK = "https://shop.example.com/notifications/webhooks/twilio/"
OF_VERDICT = {
    verdict: [code for code, rule in twilio_replies.RULES.items() if rule.verdict is verdict]
    for verdict in Verdict
}


class Parcel(Kind):
    """A text of one line."""

    name = "test_sms_parcel"
    channels = ("sms",)

    @classmethod
    def sample(cls) -> dict[str, Any]:
        return {"number": 7}


TEMPLATES = {
    "notifications/test_sms_parcel/sms.txt": "Parcel {{ number }} is on its way.\n",
}


@contextmanager
def running(**options: Any) -> Iterator[TwilioServer]:
    """The server, and settings whose only channel is SMS over it."""
    changed = options.pop("options", {})
    with TwilioServer(**options) as server, use_templates(TEMPLATES), override_settings(
        NOTIFICATIONS={
            "ENVIRONMENT": "test",
            "RECIPIENTS": "*",
            "CHANNELS": {"sms": {"RATE": "", "TIMEOUT": 1.0}},
            "PROVIDERS": {
                "twilio": {
                    "BACKEND": "notifications.providers.twilio.Twilio",
                    "OPTIONS": {**server.options, **changed},
                }
            },
            "RETRY": {"RETRIES": 3, "BASE": 2.0, "JITTER": 0.0},
        },
        RQ_QUEUES={name: {"URL": "redis://127.0.0.1:1/0"} for name in ("default", "sms")},
    ):  # fmt: skip
        holds.forget()
        yield server
    holds.forget()


@pytest.fixture
def server() -> Iterator[TwilioServer]:
    with running(callback_url=HOOK) as server:
        server.reporter.later = lambda *args: None  # type: ignore[method-assign]  # no such host
        yield server


def ask(to: str = PHONE) -> Notification:
    with transaction.atomic():
        return notify(Parcel, to=to, context={"number": 7})[0]


def deliver(row: Notification) -> Notification:
    jobs.deliver_sms(row.pk)
    row.refresh_from_db()
    return row


def seconds_until_due(row: Notification) -> float:
    return (row.due_at - timezone.now()).total_seconds()


# -- the text -------------------------------------------------------------------------------


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("é" * 160, 1),
        ("ж" * 70, 1),
        ("ж" * 71, 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
    ],
)
def test_segments_are_counted_as_networks_do(text: str, segments: int) -> None:
    assert count_segments(text) == segments


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("template", "says"),
    [(" \n", "says nothing"), ("ж" * 700, "needs 11 segments, more than 10")],
)
def test_what_cannot_be_a_text_message_is_refused(template: str, says: str) -> None:
    row = Notification(pk=1, channel="sms", to=PHONE, kind=Parcel.name)
    with (
        use_templates({"notifications/test_sms_parcel/sms.txt": template}),
        pytest.raises(InvalidMessage, match=says),
    ):
        SmsChannel().compose(row, Parcel, {})


@pytest.mark.sqlite_only
def test_a_text_message_needs_a_kind() -> None:
    with pytest.raises(InvalidMessage, match="needs a kind"):
        SmsChannel().compose(Notification(pk=1, channel="sms", to=PHONE), None, {})


# -- there ----------------------------------------------------------------------------------


def test_an_accepted_message_keeps_its_sid(server: TwilioServer) -> None:
    row = deliver(ask("+1 (202) 555-0123"))
    (message,) = server.wait_for(1)
    assert (row.state, row.to) == (State.SENT, PHONE)
    assert (message.to, message.body) == (PHONE, "Parcel 7 is on its way.")
    assert message.callback == f"{HOOK}?notification={row.pk}"
    assert Attempt.objects.get().message_id == message.sid


def test_one_connection_carries_many(server: TwilioServer) -> None:
    for number in range(12):
        ask(f"+120255501{number:02}")
    jobs.deliver_sms()
    assert {row.state for row in Notification.objects.all()} == {State.SENT}
    assert len(server.accepted) == 12
    assert server.connections <= conf.channel("sms").concurrency


def test_a_messaging_service_sends_too() -> None:
    with running(options={"FROM": "MG" + "0" * 32}) as server:
        assert deliver(ask()).state == State.SENT
    assert server.accepted[0].sender == ""


@pytest.mark.parametrize("code", OF_VERDICT[Verdict.LATER])
def test_what_passes_goes_again(server: TwilioServer, code: int) -> None:
    server.answers = [Answer(code=code, times=1)]
    row = ask()
    jobs.deliver_sms()
    row.refresh_from_db()
    assert row.state == State.PENDING
    assert row.reason.startswith(str(code))
    holds.lift(Hold.Scope.PROVIDER, "twilio")
    assert deliver(row).state == State.SENT


def test_it_waits_for_as_long_as_twilio_asks(server: TwilioServer) -> None:
    server.answers = [Answer(code=20429, headers={"Retry-After": "30"})]
    ask()
    jobs.deliver_sms()
    held = Hold.objects.get()
    assert (held.name, held.cause) == ("twilio", "asked")
    assert held.until is not None
    assert 28 < (held.until - timezone.now()).total_seconds() <= 30


@pytest.mark.parametrize("code", OF_VERDICT[Verdict.HOLD])
def test_what_stops_everything_holds_the_provider(server: TwilioServer, code: int) -> None:
    server.answers = [Answer(code=code)]
    row = ask()
    jobs.deliver_sms()
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.PENDING, 0)
    assert list(Hold.objects.values_list("scope", "name")) == [("provider", "twilio")]


@pytest.mark.parametrize("code", OF_VERDICT[Verdict.PERMANENT])
def test_what_will_never_be_taken_dies_at_once(server: TwilioServer, code: int) -> None:
    server.answers = [Answer(code=code)]
    row = deliver(ask())
    opted_out = code == twilio_replies.OPTED_OUT
    assert (row.state, row.attempts) == (State.SUPPRESSED if opted_out else State.DEAD, 1)
    assert row.reason.startswith(str(code))
    suppressed = Suppression.objects.values_list("reason", flat=True)
    assert list(suppressed) == (["opt_out"] if opted_out else [])


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=500, accept=True),
        Answer(status=503),
        Answer(status=201, body="{}"),
        Answer(then="hang", accept=True),
        Answer(then="drip", accept=True),
        Answer(then="reset", accept=True),
    ],
    ids=lambda answer: answer.then or str(answer.status),
)
def test_what_twilio_may_have_is_unknown(server: TwilioServer, answer: Answer) -> None:
    server.answers = [answer]
    row = deliver(ask())
    attempt = Attempt.objects.get()
    assert attempt.outcome == "unknown"
    assert row.state == State.PENDING  # at least once: it goes again
    server.answers = []


@pytest.mark.parametrize("status", [302, 404])
def test_somebody_else_at_its_address_holds_the_provider(server: TwilioServer, status: int) -> None:
    server.answers = [Answer(status=status, body="<html>", headers={"Location": "/elsewhere"})]
    row = deliver(ask())
    assert row.state == State.PENDING
    assert Attempt.objects.get().outcome == "hold"
    assert len(server.requests) == 1


def test_a_code_that_is_not_known_is_judged_by_its_status(server: TwilioServer) -> None:
    server.answers = [Answer(code=29999, status=400, message=f"no {PHONE} Parcel 7 is on its way.")]
    row = deliver(ask())
    assert (row.state, row.reason) == (State.DEAD, "400 no … …")


# -- back -----------------------------------------------------------------------------------


def callback(fields: dict[str, str], *, about: object = "", **changes: Any) -> Callback:
    query = {"notification": str(about)} if about else {}
    url = f"{HOOK}?{urlencode(query)}" if query else HOOK
    values: dict[str, Any] = {
        "method": "POST",
        # A proxy ended TLS before this server.
        "url": url.replace("https://shop.example.com", "http://10.0.0.7:8000"),
        "headers": {"x-twilio-signature": sign("auth-token-only-for-tests", url, fields)},
        "query": query,
        "body": urlencode(fields).encode(),
    }
    return Callback(**{**values, **changes})


def status(name: str, sid: str = "SM1", **fields: str) -> dict[str, str]:
    return {"MessageSid": sid, "MessageStatus": name, "To": PHONE, "AccountSid": "AC1", **fields}


def provider() -> Twilio:
    (twilio,) = conf.channel("sms").providers
    assert isinstance(twilio, Twilio)
    return twilio


@pytest.mark.parametrize(
    ("name", "fate"),
    [("sent", Fate.SENT), ("delivered", Fate.DELIVERED), ("read", Fate.READ)],
)
def test_statuses_are_read(server: TwilioServer, name: str, fate: Fate) -> None:
    (report,) = provider().receive(callback(status(name), about=7))
    assert (report.fate, report.message_id, report.notification_id) == (fate, "SM1", 7)
    assert report.key == f"SM1:{name}"


def test_what_tells_nothing_new_is_left_aside(server: TwilioServer) -> None:
    assert provider().receive(callback(status("queued"))) == []


@pytest.mark.parametrize(
    ("code", "verdict", "suppress"),
    [
        ("30003", Verdict.LATER, False),
        ("30005", Verdict.PERMANENT, False),
        ("21610", Verdict.PERMANENT, True),
        ("39999", Verdict.PERMANENT, False),
        ("", Verdict.PERMANENT, False),
    ],
)
def test_failures_are_judged(
    server: TwilioServer, code: str, verdict: Verdict, *, suppress: bool
) -> None:
    fields = status("undelivered", ErrorCode=code, ErrorMessage=f"{PHONE} is away")
    (report,) = provider().receive(callback(fields))
    assert report.outcome is not None
    assert (report.fate, report.outcome.verdict, report.code) == (Fate.FAILED, verdict, code)
    assert report.outcome.suppress is suppress
    assert report.text == "… is away"


def test_a_forged_callback_is_refused(server: TwilioServer) -> None:
    good = callback(status("delivered"))
    for changes in (
        {"headers": {}},
        {"headers": {"x-twilio-signature": "bm90IG91cnM="}},
        {"body": good.body.replace(b"delivered", b"failed")},
        {"body": b"\xff"},
        {"url": good.url + "?notification=8"},
    ):
        with pytest.raises(Forged):
            provider().receive(callback(status("delivered"), **changes))


@pytest.mark.parametrize("body", [b"a=1&" * 20_000, b"&".join([b"a=1"] * 200)])
def test_what_no_callback_is_like_costs_no_work(server: TwilioServer, body: bytes) -> None:
    with pytest.raises((BadCallback, Forged)):
        provider().receive(callback(status("delivered"), body=body))


def test_what_is_signed_and_says_nothing_is_refused(server: TwilioServer) -> None:
    with pytest.raises(BadCallback):
        provider().receive(callback({"AccountSid": "AC1"}))


def test_without_a_key_nothing_can_be_checked() -> None:
    with running(options={"AUTH_TOKEN": ""}), pytest.raises(NotConfigured):
        provider().receive(callback(status("delivered")))


def test_receipts_move_the_message_on(server: TwilioServer) -> None:
    row = deliver(ask())
    (message,) = server.wait_for(1)
    told = callback(status("delivered", message.sid), about=row.pk)
    receipts.take("twilio", provider().receive(told))
    row.refresh_from_db()
    assert row.state == State.DELIVERED


def test_a_message_whose_fate_was_unknown_is_known_by_its_receipt(server: TwilioServer) -> None:
    server.answers = [Answer(status=500, accept=True, times=1)]
    row = deliver(ask())
    (message,) = server.wait_for(1)
    told = callback(status("delivered", message.sid), about=row.pk)
    receipts.take("twilio", provider().receive(told))
    row.refresh_from_db()
    assert row.state == State.DELIVERED, "and it does not go again"


def test_the_server_reports_signed(server: TwilioServer) -> None:
    posted: list[tuple[str, bytes, dict[str, str]]] = []
    server.reporter.later = lambda _after, *what: posted.append(what)  # type: ignore[method-assign,assignment,arg-type]
    server.answers = [Answer(accept=True, fails=30005, times=1)]
    deliver(ask())
    reports = []
    for url, body, headers in posted:
        query = dict([url.partition("?")[2].split("=")])
        low = {name.lower(): value for name, value in headers.items()}
        reports += provider().receive(Callback("POST", url, low, query, body))
    assert [report.fate for report in reports] == [Fate.SENT, Fate.FAILED]
    assert reports[1].code == "30005"


# -- settings -------------------------------------------------------------------------------


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"notifications.E061", "notifications.W060"}),
        ({"NUMBER": 1}, {"notifications.E060", "notifications.E061", "notifications.W060"}),
        ({"ACCOUNT_SID": "AC", "AUTH_TOKEN": "t", "FROM": "+1", "CALLBACK_URL": HOOK}, set()),
        (
            {"ACCOUNT_SID": "AC", "AUTH_TOKEN": "t", "FROM": "+1", "CALLBACK_URL": HOOK,
             "API_URL": "http://api.twilio.com"},
            {"notifications.E062"},
        ),
    ],
)  # fmt: skip
def test_its_options_are_checked(options: dict[str, Any], expected: set[str]) -> None:
    found: list[CheckMessage] = Twilio("twilio", timeout=1, options=options).check()
    assert {each.id for each in found} == expected


# -- messages whose answer was lost ---------------------------------------------------------------


class Code(Parcel):
    """One that must not go out twice."""

    name = "test_sms_code"
    at_most_once = True


TEMPLATES["notifications/test_sms_code/sms.txt"] = "Your number is {{ number }}.\n"
LATER_THAN_RECEIPTS = lookups.PATIENCE + timedelta(seconds=1)


def lose(server: TwilioServer, *, taken: bool, fails: int | None = None) -> Notification:
    """A message whose call ended without an answer, some minutes ago."""
    server.answers = [Answer(then="reset", accept=taken, fails=fails, times=1)]
    with transaction.atomic():
        [row] = notify(Code, to=PHONE, context={"number": 7})
    jobs.serve("sms")
    row.refresh_from_db()
    assert row.state == State.UNKNOWN
    Notification.objects.filter(pk=row.pk).update(settled_at=Now() - LATER_THAN_RECEIPTS)
    return row


def look_up() -> dict[str, int]:
    return lookups.look_up(conf.provider("twilio"))


@pytest.fixture
def silent() -> Iterator[TwilioServer]:
    """Twilio, which cannot reach this project to tell what becomes of messages."""
    with running(options={"CALLBACK_URL": ""}) as server:
        yield server


@pytest.mark.parametrize(
    ("fails", "state"), [(None, State.DELIVERED), (30006, State.DEAD), (30003, State.PENDING)]
)
def test_what_twilio_took_is_found_by_asking(
    silent: TwilioServer, fails: int | None, state: State
) -> None:
    row = lose(silent, taken=True, fails=fails)
    assert look_up() == {"asked": 1, "found": 1, "missing": 0}
    row.refresh_from_db()
    assert row.state == state
    assert row.attempt_set.get().message_id == silent.accepted[0].sid
    assert look_up()["asked"] == 0


def test_what_twilio_did_not_take_goes_again(silent: TwilioServer) -> None:
    row = lose(silent, taken=False)
    assert look_up() == {"asked": 1, "found": 0, "missing": 1}
    Notification.objects.filter(pk=row.pk).update(due_at=Now())
    jobs.serve("sms")
    row.refresh_from_db()
    assert (row.state, len(silent.accepted)) == (State.SENT, 1)


def test_messages_of_others_and_of_other_times_are_not_taken_for_it(silent: TwilioServer) -> None:
    with transaction.atomic():
        notify(Parcel, to=PHONE, context={"number": 1})
    jobs.serve("sms")  # known by its id
    row = lose(silent, taken=False)
    silent.accepted.append(replace(silent.accepted[0], sid="SMold", created=a_day_ago()))
    silent.accepted.append(replace(silent.accepted[0], sid="SMelsewhere", to="+12025550199"))
    assert look_up() == {"asked": 1, "found": 0, "missing": 1}
    row.refresh_from_db()
    assert row.state == State.PENDING


def test_nothing_is_concluded_where_two_messages_may_be_meant(silent: TwilioServer) -> None:
    rows = [lose(silent, taken=True), lose(silent, taken=False)]
    assert look_up() == {"asked": 2, "found": 0, "missing": 0}
    silent.accepted.append(replace(silent.accepted[0], sid="SMmore"))
    Notification.objects.filter(pk=rows[0].pk).delete()
    assert look_up() == {"asked": 1, "found": 0, "missing": 0}
    rows[1].refresh_from_db()
    assert rows[1].state == State.UNKNOWN


def test_nothing_is_concluded_from_a_list_that_is_too_long(
    silent: TwilioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twilio, "PAGE", 1)
    lose(silent, taken=False)
    silent.accepted += [Accepted("SM1", PHONE, "+1", "", "", datetime.now(UTC), None)] * 2
    assert look_up() == {"asked": 1, "found": 0, "missing": 0}


OURS, THEIRS = "+12025550100", "+12025550111"
WORDS = "Your number is 7."


def took(server: TwilioServer, *, sender: str = OURS, words: str = WORDS) -> None:
    """Another program of the account's wrote to the same person just now."""
    server.accepted.append(Accepted("SMforeign", PHONE, sender, words, "", datetime.now(UTC), None))


def test_a_message_of_another_sender_is_not_taken_for_it(silent: TwilioServer) -> None:
    row = lose(silent, taken=False)
    took(silent, sender=THEIRS)
    assert look_up() == {"asked": 1, "found": 0, "missing": 1}
    row.refresh_from_db()
    assert row.state == State.PENDING


def test_other_words_from_our_sender_are_not_taken_for_it_and_prove_nothing(
    silent: TwilioServer,
) -> None:
    row = lose(silent, taken=False)
    took(silent, words="Your table is ready.")
    assert look_up() == {"asked": 1, "found": 0, "missing": 0}
    row.refresh_from_db()
    assert row.state == State.UNKNOWN


def test_it_is_found_among_messages_of_others(silent: TwilioServer) -> None:
    row = lose(silent, taken=True)
    took(silent, words="Your table is ready.")
    took(silent, sender=THEIRS)
    assert look_up() == {"asked": 1, "found": 1, "missing": 0}
    assert row.attempt_set.get().message_id == silent.accepted[0].sid


def test_a_message_of_a_messaging_service_is_found_whatever_number_it_chose() -> None:
    with running(options={"CALLBACK_URL": "", "FROM": "MG" + "0" * 32}) as server:
        lose(server, taken=True)
        server.accepted[0] = replace(server.accepted[0], sender=THEIRS)
        assert look_up() == {"asked": 1, "found": 1, "missing": 0}


def test_it_is_found_after_our_sender_and_our_key_have_changed(
    silent: TwilioServer, settings: Any
) -> None:
    lose(silent, taken=True)
    changed = {**silent.options, "CALLBACK_URL": "", "FROM": THEIRS}
    twilio = Twilio("twilio", timeout=1.0, options=changed)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another key", [settings.SECRET_KEY]
    assert lookups.look_up(twilio) == {"asked": 1, "found": 1, "missing": 0}


def test_a_hash_is_kept_of_a_lost_message_alone_and_goes_with_its_address(
    silent: TwilioServer,
) -> None:
    row = lose(silent, taken=True)
    [mark] = row.attempt_set.values_list("mark", flat=True)
    assert len(mark) == lookups.LENGTH
    with transaction.atomic():
        [answered] = notify(Parcel, to=PHONE, context={"number": 1})
    jobs.serve("sms")
    assert answered.attempt_set.get().mark == ""
    erasure.erase_person(addresses=[PHONE])
    assert row.attempt_set.get().mark == ""


def test_a_provider_that_cannot_name_its_message_loses_no_outcome(
    silent: TwilioServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Twilio, "identify", lambda self, message: message.words)
    row = lose(silent, taken=False)
    assert row.attempt_set.get().mark == ""
    assert "twilio cannot name its message: AttributeError" in caplog.text


def leave_behind(server: TwilioServer, *, taken: bool) -> Notification:
    """A message whose worker died while sending it: nobody knows when, or what it said."""
    row = lose(server, taken=taken)
    made = timezone.now() - timedelta(hours=3)
    Notification.objects.filter(pk=row.pk).update(created_at=made)
    row.attempt_set.update(provider="", milliseconds=0, mark="")
    server.accepted[:] = [
        replace(each, created=made + timedelta(minutes=1)) for each in server.accepted
    ]
    return row


def test_what_a_dead_worker_left_is_asked_for_since_it_was_made(silent: TwilioServer) -> None:
    row = leave_behind(silent, taken=True)
    assert look_up() == {"asked": 1, "found": 0, "missing": 0}, "it may be another message of ours"
    row.refresh_from_db()
    assert row.state == State.UNKNOWN


def test_what_a_dead_worker_never_handed_over_goes_again(silent: TwilioServer) -> None:
    row = leave_behind(silent, taken=False)
    assert look_up() == {"asked": 1, "found": 0, "missing": 1}
    row.refresh_from_db()
    assert row.state == State.PENDING


def test_twilio_is_asked_every_hour_if_there_is_something_to_ask(silent: TwilioServer) -> None:
    assert lookups.providers() == []
    row = lose(silent, taken=True)
    assert lookups.providers() == ["twilio"]
    with transaction.atomic():
        tasks.look_up.enqueue()
    jobs.serve("default")
    row.refresh_from_db()
    assert row.state == State.DELIVERED


def test_no_answer_of_twilios_leaves_it_unknown_and_tells_no_number(silent: TwilioServer) -> None:
    row = lose(silent, taken=True)
    silent.auth_token = "another"
    with pytest.raises(ValueError, match="401") as raised:
        look_up()
    assert PHONE not in str(raised.value)
    row.refresh_from_db()
    assert row.state == State.UNKNOWN


def a_day_ago() -> datetime:
    return datetime.now(UTC) - timedelta(days=1)
