"""The chain of providers: who takes over, when a provider is left alone, and how it comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, connections, transaction
from django.db.models import F
from django.db.models.functions import Now

from notifications import conf, holds, jobs, operations
from notifications.dispatch import notify
from notifications.kinds import Kind
from notifications.message import Outcome, Verdict
from notifications.models import Alert, Attempt, DeadLetter, Hold, Notification, State
from tests.scripted import ACCEPTED, LATER, LOCKED, REFUSED, THEIRS, Note, Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)

ASKED = Outcome(Verdict.LATER, code="429", text="slow down", theirs=True, retry_after=40.0)
HANGS = Outcome(Verdict.UNKNOWN, code="deadline", text="no answer within 10 s", theirs=True)


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


def ask(to: str = "ann@example.com", kind: type[Kind] = Note, **options: object) -> Notification:
    with transaction.atomic():
        return notify(kind, to=to, **options)[0]  # type: ignore[arg-type]


def serve() -> None:
    jobs.serve("note")


def hold() -> Hold:
    return Hold.objects.get(lifted_at=None)


def seconds_left() -> float:
    held = Hold.objects.filter(lifted_at=None).annotate(now=Now()).get()
    assert held.until is not None
    return (held.until - held.now).total_seconds()  # type: ignore[attr-defined,no-any-return]


def let_time_pass(seconds: float) -> None:
    """Put everything that waits this much nearer."""
    Hold.objects.filter(lifted_at=None).update(until=F("until") - timedelta(seconds=seconds))
    Notification.objects.filter(state=State.PENDING).update(
        due_at=F("due_at") - timedelta(seconds=seconds)
    )
    holds.forget()


def states() -> list[str]:
    return list(Notification.objects.order_by("id").values_list("state", flat=True))


def test_the_third_trouble_in_a_row_opens_the_breaker(script: Script) -> None:
    script.answer("ann@example.com", THEIRS)
    row = ask()
    for _ in range(5):
        serve()
    row.refresh_from_db()
    # Two attempts are lost; the third failure is the provider's alone.
    assert (row.state, row.attempts, len(script.sent)) == (State.PENDING, 2, 3)
    held = hold()
    assert (held.scope, held.name, held.cause) == ("provider", "first", "outage")
    assert held.reason == "503 down"
    assert 3 < seconds_left() <= 5
    assert list(Attempt.objects.values_list("theirs", flat=True)) == [True, True, True]


def test_an_answer_about_the_message_shows_a_provider_at_work(script: Script) -> None:
    script.answer("ann@example.com", THEIRS, THEIRS, LATER, THEIRS)
    row = ask()
    for _ in range(6):
        serve()
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.DEAD, 4)
    assert not Hold.objects.exists()


def test_after_its_time_one_message_probes_and_closes_it(script: Script) -> None:
    for n in range(6):
        script.answer(f"u{n}@example.com", *[THEIRS] * 2, ACCEPTED)
    with scripted(CONCURRENCY=1) as one:
        for n in range(6):
            one.answer(f"u{n}@example.com", THEIRS)
            ask(f"u{n}@example.com")
        serve()
        before = len(one.sent)
        for n in range(6):
            one.answer(f"u{n}@example.com", ACCEPTED)
        serve()
        assert len(one.sent) == before  # held: nothing is tried
        let_time_pass(6)
        serve()
    assert states() == [State.SENT] * 6
    assert Hold.objects.get().lifted_at is not None
    assert holds.current().half_open == {}


def test_a_vain_probe_doubles_the_time_and_lets_another_message_try_next(script: Script) -> None:
    script.answer("ann@example.com", THEIRS)
    script.answer("bob@example.com", THEIRS)
    ann = ask()
    for _ in range(3):
        serve()
    let_time_pass(6)
    serve()  # ann probes
    assert (hold().probes, len(script.sent)) == (1, 4)
    assert 8 < seconds_left() <= 10
    bob = ask("bob@example.com")
    let_time_pass(10.1)
    serve()
    assert script.sent[-1] == ("first", bob.pk)  # she makes way for him
    assert (hold().probes, len(script.sent)) == (2, 5)
    assert 17 < seconds_left() <= 20
    ann.refresh_from_db()
    assert ann.attempts == 2


def test_an_hour_of_probes_costs_no_attempt_and_is_told_once(script: Script) -> None:
    script.answer("ann@example.com", THEIRS)
    row = ask()
    for _ in range(60):
        let_time_pass(62)
        serve()
    row.refresh_from_db()
    assert (row.state, row.attempts, DeadLetter.objects.count()) == (State.PENDING, 2, 0)
    assert 50 < len(script.sent) <= 62
    assert 55 < seconds_left() <= 60
    told = Alert.objects.get()
    assert told.subject == "note: first is held"
    script.answer("ann@example.com", ACCEPTED)
    let_time_pass(62)
    serve()
    assert states() == [State.SENT]


def test_after_a_day_of_outage_attempts_count_again(script: Script) -> None:
    script.answer("ann@example.com", THEIRS)
    row = ask()
    for _ in range(3):
        serve()
    Notification.objects.update(wanted_at=Now() - timedelta(days=1, seconds=60))
    for _ in range(3):
        let_time_pass(62)
        serve()
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.DEAD, 4)


def test_a_provider_that_hangs_is_left_alone_too_but_each_call_counts(script: Script) -> None:
    script.answer("ann@example.com", HANGS)
    row = ask()
    for _ in range(5):
        serve()
    row.refresh_from_db()
    assert (row.attempts, len(script.sent)) == (3, 3)
    assert hold().cause == "outage"


def test_while_the_first_is_left_alone_the_second_carries_everything() -> None:
    with scripted(PROVIDERS=["first", "second"], CONCURRENCY=1) as script:
        for n in range(10):
            script.answer(f"first:u{n}@example.com", THEIRS)
            ask(f"u{n}@example.com")
        serve()
        assert states() == [State.SENT] * 10
        tried = [provider for provider, _row in script.sent].count("first")
        ask("u3@example.com")
        serve()
        assert [provider for provider, _row in script.sent].count("first") == tried
        assert script.sent[-1][0] == "second"
        # One message probes the first one; it loses no time, for the second takes over.
        let_time_pass(6)
        ask("u4@example.com")
        ask("u5@example.com")
        serve()
        assert [provider for provider, _row in script.sent].count("first") == tried + 1
        assert set(states()) == {State.SENT}
        let_time_pass(12)
        for n in range(10):
            script.answer(f"first:u{n}@example.com", ACCEPTED)
            ask(f"u{n}@example.com")
        serve()
        assert [provider for provider, _row in script.sent[-9:]] == ["first"] * 9
        assert Hold.objects.get().lifted_at is not None


def test_only_when_the_whole_chain_is_down_messages_wait() -> None:
    with scripted(PROVIDERS=["first", "second"]) as script:
        script.answer("ann@example.com", THEIRS)
        row = ask()
        for _ in range(6):
            serve()
        row.refresh_from_db()
        assert (row.state, row.attempts) == (State.PENDING, 2)
        assert Hold.objects.filter(lifted_at=None).count() == 2
        script.answer("ann@example.com", ACCEPTED)
        let_time_pass(6)
        serve()
        row.refresh_from_db()
        assert row.state == State.SENT


def test_a_provider_that_asks_to_wait_is_held_for_that_time(script: Script) -> None:
    script.answer("ann@example.com", ASKED)
    row = ask()
    ask("bob@example.com", delay=0.2)
    serve()
    row.refresh_from_db()
    assert (row.state, row.attempts, hold().cause) == (State.PENDING, 0, "asked")
    assert 38 < seconds_left() <= 40
    time.sleep(0.2)
    serve()
    assert len(script.sent) == 1
    script.answer("ann@example.com", ACCEPTED)
    let_time_pass(42)
    serve()
    assert states() == [State.SENT, State.SENT]
    assert not Alert.objects.exists()


def test_a_locked_account_is_told_to_the_administrators_and_probed_by_one(script: Script) -> None:
    script.answer("ann@example.com", LOCKED)
    ask()
    serve()
    told = Alert.objects.get()
    assert (told.subject, told.channel) == ("note: first is held", "note")
    assert "535 bad password" in told.text
    ask("bob@example.com")
    let_time_pass(301)
    serve()
    assert len(script.sent) == 2
    assert 290 < seconds_left() <= 300
    told.refresh_from_db()
    assert told.times == 2


def test_a_refused_recipient_closes_the_breaker_as_well(script: Script) -> None:
    script.answer("ann@example.com", *[THEIRS] * 3, REFUSED)
    ask()
    for _ in range(3):
        serve()
    let_time_pass(6)
    serve()
    assert states() == [State.DEAD]
    assert Hold.objects.get().lifted_at is not None


def test_two_workers_make_one_probe(script: Script) -> None:
    for n in range(4):
        script.answer(f"u{n}@example.com", THEIRS)
        ask(f"u{n}@example.com")
    for _ in range(3):
        serve()
    before = len(script.sent)
    together = threading.Barrier(2)

    def down() -> Outcome:
        time.sleep(0.3)
        return THEIRS

    for n in range(4):
        script.answer(f"u{n}@example.com", down)
    let_time_pass(6)

    def work() -> None:
        try:
            together.wait(5)
            serve()
        finally:
            connections.close_all()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert len(script.sent) == before + 1


def test_a_probe_whose_worker_died_is_free_again_after_its_time(script: Script) -> None:
    holds.trip("first", reason="down", cause=Hold.Cause.OUTAGE, seconds=1)
    let_time_pass(2)
    assert holds.probe("first", seconds=15)
    assert not holds.probe("first", seconds=15)
    let_time_pass(16)
    assert holds.probe("first", seconds=15)


def test_a_persons_hold_is_neither_changed_nor_lifted_by_what_providers_say(script: Script) -> None:
    person = get_user_model().objects.create(username="pat")
    holds.hold("provider", "first", reason="moving house", by=person)
    holds.trip("first", reason="down", cause=Hold.Cause.OUTAGE, seconds=1)
    holds.reopen("first", reason="down", cause=Hold.Cause.OUTAGE, seconds=1)
    holds.mend("first")
    held = hold()
    assert (held.reason, held.cause, held.until, held.by) == (
        "moving house", "person", None, person,
    )  # fmt: skip
    assert not holds.probe("first", seconds=1)


def test_a_persons_hold_that_is_over_makes_way_for_the_breaker(script: Script) -> None:
    holds.hold("provider", "first", reason="for a minute", seconds=60)
    let_time_pass(61)
    assert holds.current().providers == {}
    holds.trip("first", reason="down", cause=Hold.Cause.OUTAGE, seconds=9)
    assert hold().reason == "down"


def test_a_person_lifts_it_at_once(script: Script) -> None:
    script.answer("ann@example.com", THEIRS)
    ask()
    for _ in range(3):
        serve()
    script.answer("ann@example.com", ACCEPTED)
    operations.resume("note")
    serve()
    assert states() == [State.SENT]


def test_a_held_template_holds_its_kind_on_this_channel_and_nothing_else(script: Script) -> None:
    class Paid(Kind):
        name = "test_paid"
        channels = ("note",)

    paused = Outcome(Verdict.HOLD, code="132015", text="paused", holds="order_paid", theirs=True)
    script.answer("ann@example.com", paused)
    row = ask(kind=Paid)
    serve()
    ask("bob@example.com", kind=Paid)
    ask("eve@example.com")
    serve()
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.PENDING, 0)
    assert states() == [State.PENDING, State.PENDING, State.SENT]
    held = hold()
    assert (held.scope, held.name, held.reason) == ("template", "note/test_paid", "132015 paused")
    assert "order_paid" in Alert.objects.get().text
    assert holds.current().kinds_of("note") == ["test_paid"]
    assert holds.current().kinds_of("email") == []
    script.answer("ann@example.com", ACCEPTED)
    operations.lift(held)
    Notification.objects.filter(pk=row.pk).update(due_at=Now())
    serve()
    assert set(states()) == {State.SENT}


def test_a_held_template_of_messages_without_a_kind_is_told_and_costs_them_nothing(
    script: Script,
) -> None:
    paused = Outcome(Verdict.HOLD, code="132015", text="paused", holds="order_paid", theirs=True)
    script.answer("ann@example.com", paused)
    row = ask()
    Notification.objects.update(kind="")
    serve()
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.PENDING, 0)
    assert not Hold.objects.exists()
    told = Alert.objects.get()
    assert (told.subject, told.channel) == ("note: the template order_paid is held", "note")


def test_calls_that_wait_for_a_provider_that_hangs_go_to_the_next_one() -> None:
    with scripted(PROVIDERS=["first", "second"], TIMEOUT=0.3, CONCURRENCY=3) as script:
        stuck = threading.Event()
        for n in range(12):
            script.answer(f"first:u{n}@example.com", lambda: (stuck.wait(5), ACCEPTED)[1])
            ask(f"u{n}@example.com")
        try:
            serve()
        finally:
            stuck.set()
        firsts = [row for provider, row in script.sent if provider == "first"]
        assert len(firsts) <= 6
        # What the first may have is unknown and goes again; nothing is lost.
        assert set(states()) == {State.SENT}


def test_a_setting_that_makes_no_sense_is_refused(script: Script) -> None:
    with (
        scripted(_BREAKER={"FAILURES": 0}),
        pytest.raises(Exception, match=r"NOTIFICATIONS\['BREAKER'\]: FAILURES"),
    ):
        conf.breaker_policy()


def test_a_busy_channel_does_not_hide_the_troubles_of_another() -> None:
    with scripted(_RETRY={"RETRIES": 3, "BASE": 1.0, "JITTER": 0.0}) as script:
        script.answer("ann@example.com", THEIRS)
        row = ask()
        for _ in range(3):
            serve()
            busy = [
                Attempt(notification=row, number=1, provider="another", outcome="accepted")
                for _ in range(150)
            ]
            Attempt.objects.bulk_create(busy)
            let_time_pass(4.5)
    row.refresh_from_db()
    assert (row.state, row.attempts, len(script.sent)) == (State.PENDING, 2, 3)
    assert hold().name == "first"


def test_what_is_late_already_is_not_given_to_the_next_provider() -> None:
    """Its lease would run out meanwhile, and another worker would send it too."""

    def slowly() -> Outcome:
        time.sleep(0.9)
        return THEIRS

    with scripted(PROVIDERS=["first", "second"], TIMEOUT=1.0, _LEASE=2.5) as script:
        script.answer("first:ann@example.com", slowly, THEIRS)
        row = ask()
        serve()
        attempts = Attempt.objects.order_by("id").values_list("provider", "number")
        row.refresh_from_db()
        assert row.state == State.SENT
        assert list(attempts) == [("first", 1), ("first", 2), ("second", 2)]


@pytest.mark.postgres_only
def test_the_last_attempts_of_a_provider_are_found_by_an_index(script: Script) -> None:
    row = ask()
    Attempt.objects.bulk_create(
        Attempt(notification=row, number=1, provider="busy", outcome="accepted")
        for n in range(5000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notifications_attempt")
    newest = Attempt.objects.filter(provider="rare").order_by("-id").values_list("theirs")[:3]
    assert "ntf_attempt_provider" in newest.explain()
