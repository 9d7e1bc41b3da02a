"""What must not take its neighbours along: answers that no database stores, rows that vanish in
flight, queries that fail, servers that drip before they greet."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from django.db import (
    IntegrityError,
    OperationalError,
    close_old_connections,
    connections,
    transaction,
)

from notifications import jobs, outbox, suppressions
from notifications.delivery import Delivery
from notifications.dispatch import notify
from notifications.kinds import Kind
from notifications.message import Outcome, Verdict
from notifications.models import Attempt, DeadLetter, Notification, State
from notifications.tasks import task
from notifications.testing.sendgrid_server import Answer, SendGridServer
from notifications.testing.whatsapp_server import Answer as WhatsAppAnswer
from tests.carriers import arrivals, ask, carried_by, serve, states, whatsapp_server
from tests.scripted import ACCEPTED, THEIRS, Note, NoteChannel, Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


def note(to: str = "ann@example.com", kind: type[Kind] = Note, **options: Any) -> Notification:
    with transaction.atomic():
        return notify(kind, to=to, **options)[0]


# -- answers ----------------------------------------------------------------------------------

ODD = "no \x00 database \ud800 stores\x1b this"


@pytest.mark.parametrize("verdict", list(Verdict))
def test_an_answer_that_no_database_stores_is_stored_without_its_odd_characters(
    script: Script, verdict: Verdict
) -> None:
    odd = Outcome(
        verdict, code="5\x00", text=ODD, message_id="<\x00\ud800>", error=ODD, traceback=ODD
    )
    script.answer("ann@example.com", odd)
    note()
    neighbours = [note(f"u{n}@example.com") for n in range(5)]
    jobs.serve("note")
    odd_ones = Attempt.objects.filter(outcome=verdict).exclude(code="250")
    assert set(odd_ones.values_list("text", "code", "message_id")) == {
        ("no ? database ? stores? this", "5?", "<??>")
    }
    sent = Notification.objects.filter(pk__in=[row.pk for row in neighbours], state=State.SENT)
    if verdict is not Verdict.HOLD:
        assert sent.count() == 5
    assert max(script.rows().count(row.pk) for row in neighbours) <= 1


def test_an_api_that_answers_odd_characters_takes_no_neighbour_along() -> None:
    with SendGridServer() as sendgrid, whatsapp_server() as whatsapp:
        sendgrid.answers = [Answer(400, ODD, match="person0@")]
        whatsapp.answers = [WhatsAppAnswer(code=131026, details=ODD, match="0100")]
        with carried_by(sendgrid, whatsapp):
            mails, texts = ask(count=6), ask("whatsapp", 6)
            serve("email")
            serve("whatsapp")
    for first, *others in (mails, texts):
        first.refresh_from_db()
        assert first.state == State.DEAD
        assert arrivals([sendgrid, whatsapp]).keys() >= {str(row.pk) for row in others}
    assert set(arrivals([sendgrid, whatsapp]).values()) == {1}
    assert Notification.objects.filter(state=State.SENT).count() == 10


@task
def whine() -> None:
    raise ValueError(ODD)


def test_a_task_may_fail_with_odd_characters(script: Script) -> None:
    with transaction.atomic():
        row = whine.enqueue()
    jobs.serve("default")
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.DEAD, 4)
    assert row.reason == "ValueError: no ? database ? stores? this (attempt 4 of 4)"


# -- rows -------------------------------------------------------------------------------------


def test_a_row_that_is_deleted_while_it_is_sent_takes_no_neighbour_along(script: Script) -> None:
    rows = [note(f"u{n}@example.com") for n in range(6)]
    gone = threading.Event()

    def slow() -> Outcome:
        assert gone.wait(5)
        return ACCEPTED

    for n in range(6):
        script.answer(f"u{n}@example.com", slow)
    worker = threading.Thread(target=jobs.serve, args=("note",))
    worker.start()
    while script.at_once < 5:
        time.sleep(0.005)
    Notification.objects.filter(pk=rows[2].pk).delete()
    gone.set()
    worker.join(15)
    assert list(Notification.objects.values_list("state", flat=True)) == [State.SENT] * 5
    assert Attempt.objects.count() == 5


def test_trouble_with_a_row_that_is_gone_takes_no_neighbour_along(script: Script) -> None:
    rows = [note(f"u{n}@example.com") for n in range(4)]

    def vanish() -> Outcome:
        close_old_connections()
        Notification.objects.filter(pk=rows[0].pk).delete()
        connections.close_all()
        return THEIRS

    script.answer("u0@example.com", vanish)
    script.answer("u1@example.com", THEIRS, ACCEPTED)
    jobs.serve("note")
    assert set(Notification.objects.values_list("state", flat=True)) == {State.SENT}
    assert script.rows().count(rows[1].pk) == 2
    assert {script.rows().count(row.pk) for row in (rows[0], *rows[2:])} == {1}


def test_a_lost_database_is_waited_for_also_while_settling_one_by_one(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [note(f"u{n}@example.com") for n in range(3)]
    real, failures = outbox.settle, [IntegrityError("gone"), OperationalError("away")]

    def settle(settlements: Any, attempts: Any = ()) -> int:
        if failures and attempts:
            raise failures.pop(0)
        return real(settlements, attempts)

    monkeypatch.setattr(outbox, "settle", settle)
    jobs.serve("note")
    assert not failures
    assert list(Notification.objects.values_list("state", flat=True)) == [State.SENT] * 3
    assert (sorted(script.rows()), Attempt.objects.count()) == ([row.pk for row in rows], 3)


LEASE = 1.5  # seconds, with calls of 0.2 s


def fail_to_settle(monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> None:
    """Let the database be away for settling, from now on and for so long."""
    real, until = outbox.settle, time.monotonic() + seconds

    def settle(settlements: Any, attempts: Any = ()) -> int:
        if time.monotonic() < until:
            raise OperationalError("away")
        return real(settlements, attempts)

    monkeypatch.setattr(outbox, "settle", settle)


def test_outcomes_are_kept_beyond_their_lease_while_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with scripted(TIMEOUT=0.2, _LEASE=LEASE) as script:
        row = note()
        fail_to_settle(monkeypatch, seconds=LEASE + 0.7)
        jobs.serve("note")
    row.refresh_from_db()
    assert (row.state, row.attempts, script.rows()) == (State.SENT, 1, [row.pk])
    assert len([each for each in caplog.records if "where=delivery" in each.message]) == 1


def test_whoever_is_told_to_stop_waits_for_the_database_no_longer_than_the_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with scripted(TIMEOUT=0.2, _LEASE=LEASE) as script:
        row = note()
        fail_to_settle(monkeypatch, seconds=60)
        monkeypatch.setattr(jobs, "STOP", threading.Event())
        script.answer("ann@example.com", lambda: jobs.STOP.set() or ACCEPTED)
        began = time.monotonic()
        jobs.serve("note")
        took = time.monotonic() - began
    assert LEASE - 0.1 < took < LEASE + 2
    row.refresh_from_db()
    assert (row.state, row.started) == (State.PENDING, True)


def test_an_address_is_suppressed_also_while_settling_one_by_one(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Outcome(Verdict.PERMANENT, code="21610", suppress=True)
    script.answer("ann@example.com", gone)
    row = note()
    real, failures = outbox.settle, [IntegrityError("gone")]

    def settle(settlements: Any, attempts: Any = ()) -> int:
        if failures and attempts:
            raise failures.pop(0)
        return real(settlements, attempts)

    monkeypatch.setattr(outbox, "settle", settle)
    jobs.serve("note")
    row.refresh_from_db()
    assert not failures
    assert row.state == State.SUPPRESSED
    assert [each.reason for each in suppressions.find("note", "ann@example.com")] == ["opt_out"]


# -- queries ----------------------------------------------------------------------------------


class Broken(Kind):
    """Its query fails for ever, as one without its table or beyond its time does."""

    name = "test_broken_query"
    channels = ("note",)

    @classmethod
    def prepare(cls, batch: Sequence[Notification]) -> list[dict[str, Any]]:
        raise OperationalError("canceling statement due to statement timeout")


def test_a_kind_whose_query_fails_for_ever_holds_up_no_other(script: Script) -> None:
    broken = note("broken@example.com", kind=Broken)
    others = [note(f"u{n}@example.com") for n in range(3)]
    for _ in range(4):
        jobs.serve("note")
    broken.refresh_from_db()
    assert (broken.state, broken.attempts) == (State.DEAD, 4)
    assert DeadLetter.objects.get().error == "OperationalError"
    assert script.rows() == [row.pk for row in others]


class Endless(Kind):
    """One of its rows never gets its context."""

    name = "test_endless"
    channels = ("note",)

    @classmethod
    def prepare(cls, batch: Sequence[Notification]) -> list[dict[str, Any]]:
        if any(row.to == "endless@example.com" for row in batch):
            time.sleep(60)
        return [{} for _ in batch]


def test_a_row_that_takes_too_long_to_compose_fails_and_holds_up_no_other() -> None:
    with scripted(TIMEOUT=0.2, _LEASE=1.8) as script:
        rows = [note(f"u{n}@example.com", kind=Endless) for n in range(8)]
        endless = note("endless@example.com", kind=Endless)
        until = time.monotonic() + 30
        while DeadLetter.objects.count() == 0 and time.monotonic() < until:
            jobs.serve("note")
    endless.refresh_from_db()
    assert (endless.state, endless.attempts) == (State.DEAD, 4)
    letter = DeadLetter.objects.get()
    assert (letter.error, "longer than 0.3 s" in letter.reason) == ("TimeoutError", True)
    assert sorted(script.rows()) == [row.pk for row in rows]


def test_a_database_that_is_away_while_composing_costs_no_attempt(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = note()
    real, lost = NoteChannel.compose, [True]

    def compose(self: NoteChannel, row: Notification, kind: Any, context: Any) -> Any:
        if lost:
            lost.clear()
            monkeypatch.setattr(type(connections["default"]), "is_usable", lambda self: False)
            raise OperationalError("server closed the connection unexpectedly")
        monkeypatch.undo()
        return real(self, row, kind, context)

    monkeypatch.setattr(NoteChannel, "compose", compose)
    jobs.serve("note")
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.SENT, 1)


# -- bugs -------------------------------------------------------------------------------------


def test_what_waits_for_a_lane_is_given_back_when_serving_ends_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with scripted(CONCURRENCY=1) as script:
        rows = [note(f"u{n}@example.com") for n in range(70)]
        calling, going = threading.Event(), threading.Event()

        def slow() -> Outcome:
            calling.set()
            going.wait(5)
            return ACCEPTED

        script.answer("u30@example.com", slow)
        real = Delivery.step

        def step(self: Delivery, **options: Any) -> None:
            if calling.is_set():
                monkeypatch.undo()
                threading.Timer(0.2, going.set).start()
                raise RuntimeError("a bug")
            real(self, **options)

        monkeypatch.setattr(Delivery, "step", step)
        jobs.serve("note")
        assert rows[30].pk in script.rows()
        assert len(script.sent) == 31
        assert Notification.objects.filter(state=State.SENT).count() == 31
        jobs.serve("note")
        assert states() == {State.SENT}
        assert sorted(script.rows()) == [row.pk for row in rows]


@pytest.mark.postgres_only
def test_one_row_can_be_delivered_after_the_database_was_away(
    script: Script,
) -> None:
    row = note()
    alias = connections["default"]
    alias.ensure_connection()
    alias.errors_occurred = True
    alias.connection.close()  # as a server that was restarted does
    jobs.deliver("note", row.pk)
    jobs.deliver("note", row.pk)
    row.refresh_from_db()
    assert row.state == State.SENT


def test_a_provider_that_forgets_to_say_what_came_of_it_leaves_an_unknown(script: Script) -> None:
    script.answer("ann@example.com", lambda: None, ACCEPTED)  # type: ignore[arg-type,return-value]
    row, neighbour = note(), note("bob@example.com")
    for _ in range(2):
        jobs.serve("note")
    assert states() == {State.SENT}
    first = Attempt.objects.filter(notification=row).order_by("id")[0]
    assert (first.outcome, first.text) == ("unknown", "its session gave no Outcome but a NoneType")
    assert script.rows().count(neighbour.pk) == 1
