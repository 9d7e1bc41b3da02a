"""What providers report later: kept once, matched to its attempt, and never moving a row back."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications import conf, fates, holds, jobs, operations, outbox, receipts
from notifications.dispatch import notify
from notifications.kinds import Kind
from notifications.message import Fate, Outcome, Report, Verdict
from notifications.models import (
    Alert,
    Attempt,
    DeadLetter,
    Hold,
    Notification,
    Receipt,
    State,
    Suppression,
)
from notifications.models.work import TRANSITIONS
from tests.scripted import ACCEPTED, LATER, LOST, Note, Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)

ANN = "ann@example.com"
GONE = Outcome(Verdict.PERMANENT, code="131026", text="not on WhatsApp")


class Once(Kind):
    """Must not go out twice."""

    name = "test_once"
    channels = ("note",)
    at_most_once = True


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


def ask(to: str = ANN, kind: type[Kind] = Note, **options: Any) -> Notification:
    with transaction.atomic():
        return notify(kind, to=to, **options)[0]


def send(script: Script, *, to: str = ANN, message_id: str = "m1", **options: Any) -> Notification:
    """A row that the provider accepted under `message_id`."""
    script.answer(to, replace(ACCEPTED, message_id=message_id))
    row = ask(to, **options)
    jobs.serve("note")
    row.refresh_from_db()
    assert row.state == State.SENT
    return row


def report(fate: Fate, message_id: str = "m1", **fields: Any) -> Report:
    fields.setdefault("key", f"{message_id}:{fate}")
    return Report(fate, message_id, **fields)


def take(*reports: Report) -> receipts.Taken:
    return receipts.take("first", reports)


def state_of(row: Notification) -> str:
    row.refresh_from_db()
    return row.state


# -- the way of a receipt -----------------------------------------------------------------------


def test_a_receipt_moves_its_message_and_is_kept_with_its_attempt(script: Script) -> None:
    row = send(script)
    sent_at = row.settled_at
    taken = take(report(Fate.DELIVERED, code="250", text="ok"))
    assert taken == receipts.Taken(reports=1, applied=1, moved=1)
    assert state_of(row) == State.DELIVERED
    assert row.settled_at > sent_at
    receipt = Receipt.objects.get()
    assert (receipt.notification, receipt.attempt) == (row, Attempt.objects.get())
    assert (receipt.fate, receipt.code, receipt.text, receipt.applied) == (
        "delivered", "250", "ok", True,
    )  # fmt: skip
    assert receipt.look_at is None


def test_the_same_report_is_kept_once_and_changes_nothing_again(script: Script) -> None:
    row = send(script)
    assert take(report(Fate.DELIVERED), report(Fate.DELIVERED)).known == 1
    take(report(Fate.READ))
    settled = Notification.objects.get().settled_at
    assert take(report(Fate.DELIVERED)) == receipts.Taken(reports=1, known=1)
    assert (state_of(row), row.settled_at) == (State.READ, settled)
    assert Receipt.objects.count() == 2


def test_a_key_too_long_to_keep_is_still_one_key(script: Script) -> None:
    send(script)
    long = report(Fate.DELIVERED, key="k" * 500)
    assert (take(long).applied, take(long).known) == (1, 1)


def test_a_report_that_no_database_stores_as_it_is_takes_no_other_along(script: Script) -> None:
    row = send(script)
    taken = take(
        report(Fate.DELIVERED, notification_id=10**20),
        report(Fate.READ, "m\x00", key="k\x00", code="\ud800", text="\x00", notification_id=-1),
    )
    assert (taken.reports, taken.applied) == (2, 1)
    assert state_of(row) == State.DELIVERED


def test_the_key_of_one_provider_is_not_another_providers(script: Script) -> None:
    row = send(script)
    assert receipts.take("second", [report(Fate.DELIVERED)]).waiting == 1  # and nothing is moved
    assert state_of(row) == State.SENT
    assert take(report(Fate.DELIVERED)).applied == 1


NEWS = [Fate.SENT, Fate.DEFERRED, Fate.DELIVERED, Fate.READ, Fate.BOUNCED, Fate.COMPLAINED]


@pytest.mark.parametrize(
    ("reports", "end"),
    [
        ([Fate.SENT, Fate.DELIVERED, Fate.READ], State.READ),
        ([Fate.DEFERRED, Fate.DELIVERED], State.DELIVERED),
        ([Fate.DELIVERED, Fate.BOUNCED], State.BOUNCED),
        ([Fate.DELIVERED, Fate.READ, Fate.COMPLAINED], State.COMPLAINED),
        ([Fate.DELIVERED, Fate.FAILED], State.DELIVERED),
        ([Fate.READ, Fate.BOUNCED], State.READ),
        ([Fate.OPTED_OUT], State.SENT),
    ],
)
def test_the_end_is_the_same_in_whatever_order_reports_come(
    script: Script, reports: list[Fate], end: State
) -> None:
    for number, order in enumerate(itertools.permutations(reports)):
        name = f"{number}@example.com"
        row = send(script, to=name, message_id=name)
        for fate in order:
            take(report(fate, name))
        assert state_of(row) == end, order
        together = f"t{number}@example.com"
        row = send(script, to=together, message_id=together)
        take(*[report(fate, together) for fate in order])
        assert state_of(row) == end, order
    assert not DeadLetter.objects.exists()


@settings(max_examples=300)
@given(
    start=st.sampled_from([State.SENT, State.UNKNOWN]),
    reports=st.lists(st.sampled_from(NEWS), max_size=6),
)
def test_no_order_of_news_makes_a_difference(start: State, reports: list[Fate]) -> None:
    def end(order: list[Fate]) -> State:
        state = start
        for fate in order:
            if fates.counts(state, fate, latest=True, unknown=start is State.UNKNOWN):
                state = fates.heading(state, fate) or state
        return state

    assert end(reports) == end(sorted(reports)) == end(sorted(reports, reverse=True))


# -- failures -----------------------------------------------------------------------------------


def test_a_failure_for_good_leaves_a_dead_letter(script: Script) -> None:
    row = send(script)
    take(report(Fate.FAILED, code="131026", text="not on WhatsApp", outcome=GONE))
    assert state_of(row) == State.DEAD
    letter = DeadLetter.objects.get()
    assert (letter.notification, letter.attempts, letter.code) == (row, 1, "131026")
    assert letter.reason == row.reason == "131026 not on WhatsApp"


def test_a_failure_that_passes_goes_again_after_the_time_the_provider_asked_for(
    script: Script,
) -> None:
    row = send(script)
    later = replace(LATER, retry_after=3600.0)
    take(report(Fate.FAILED, code="131049", outcome=later))
    assert state_of(row) == State.PENDING
    assert row.attempts == 1
    assert row.settled_at is None
    wait = Notification.objects.annotate(now=Now()).get()
    assert timedelta(minutes=59) < wait.due_at - wait.now <= timedelta(hours=1)


def test_failures_count_as_attempts_until_none_is_left(script: Script) -> None:
    row = send(script)
    for attempt in range(1, 5):
        name = f"m{attempt}"
        take(report(Fate.FAILED, name, outcome=LATER))
        if attempt < 4:
            assert state_of(row) == State.PENDING
            script.answer(ANN, replace(ACCEPTED, message_id=f"m{attempt + 1}"))
            jobs.serve("note")
    assert state_of(row) == State.DEAD
    assert DeadLetter.objects.get().reason == "451 busy (attempt 4 of 4)"


def test_a_failure_told_twice_by_other_words_costs_one_attempt(script: Script) -> None:
    row = send(script)
    take(report(Fate.FAILED, outcome=LATER))
    take(report(Fate.FAILED, key="other", outcome=GONE))
    assert state_of(row) == State.PENDING
    assert not DeadLetter.objects.exists()


def test_a_failure_of_an_earlier_attempt_says_nothing_of_the_later_one(script: Script) -> None:
    row = send(script)
    take(report(Fate.FAILED, outcome=LATER))
    script.answer(ANN, replace(ACCEPTED, message_id="m2"))
    jobs.serve("note")
    take(report(Fate.FAILED, key="late", outcome=GONE), report(Fate.BOUNCED))
    assert state_of(row) == State.SENT
    take(report(Fate.DELIVERED, "m2"))
    assert state_of(row) == State.DELIVERED


def test_what_arrived_after_all_stops_the_retry(script: Script) -> None:
    row = send(script)
    take(report(Fate.FAILED, outcome=replace(LATER, retry_after=60.0)))
    take(report(Fate.SENT))  # says less than the failure
    assert state_of(row) == State.PENDING
    take(report(Fate.DELIVERED))
    assert state_of(row) == State.DELIVERED
    take(report(Fate.FAILED, key="again", outcome=GONE))
    assert state_of(row) == State.DELIVERED


def test_a_dead_letter_goes_when_its_message_arrived_after_all(script: Script) -> None:
    row = send(script)
    take(report(Fate.FAILED, outcome=GONE))
    take(report(Fate.READ))
    assert state_of(row) == State.READ
    assert not DeadLetter.objects.exists()


def test_a_failure_too_late_to_go_again_expires(script: Script) -> None:
    row = send(script, expires_after=timedelta(minutes=1))
    take(report(Fate.FAILED, outcome=replace(LATER, retry_after=3600.0)))
    assert state_of(row) == State.EXPIRED


LOCKED = Outcome(Verdict.HOLD, code="131031", text="locked", theirs=True)
PAUSED = Outcome(Verdict.HOLD, code="132015", text="paused", holds="a template", theirs=True)
TOO_SOON = Outcome(Verdict.LATER, code="131056", text="too soon", retry_after=6.0, patient=True)


@pytest.mark.parametrize("outcome", [LOCKED, PAUSED, TOO_SOON], ids=lambda each: each.code)
def test_what_is_no_fault_of_the_message_costs_it_no_attempt_by_receipt_either(
    script: Script, outcome: Outcome
) -> None:
    row = send(script)
    for number in range(6):
        take(report(Fate.FAILED, f"m{number or 1}", key=f"k{number}", outcome=outcome))
        assert (state_of(row), row.attempts) == (State.PENDING, 0)
        Hold.objects.update(lifted_at=Now())
        Notification.objects.update(due_at=Now())
        holds.forget()
        script.answer(ANN, replace(ACCEPTED, message_id=f"m{number + 1}"))
        jobs.serve("note")
        assert (state_of(row), row.attempts) == (State.SENT, 1)
    assert not DeadLetter.objects.exists()


def test_an_account_found_locked_by_a_receipt_holds_its_provider_and_is_told(
    script: Script,
) -> None:
    row = send(script)
    take(report(Fate.FAILED, outcome=LOCKED))
    held = Hold.objects.get(lifted_at=None)
    assert (held.scope, held.name, held.reason) == ("provider", "first", "131031 locked")
    assert Alert.objects.get().subject == "note: first is held"
    other = ask("bob@example.com")
    jobs.serve("note")
    assert (state_of(row), state_of(other), len(script.sent)) == (State.PENDING, State.PENDING, 1)


def test_a_template_found_paused_by_a_receipt_is_held_and_told(script: Script) -> None:
    row = send(script)
    take(report(Fate.FAILED, outcome=PAUSED))
    held = Hold.objects.get(lifted_at=None)
    assert (held.scope, held.name) == ("template", "note/test_note")
    assert "132015 paused" in Alert.objects.get().text
    jobs.serve("note")
    assert (state_of(row), len(script.sent)) == (State.PENDING, 1)


def test_a_hold_told_late_about_what_has_arrived_holds_nothing(script: Script) -> None:
    send(script)
    take(report(Fate.DELIVERED))
    take(report(Fate.FAILED, outcome=LOCKED))
    assert not Hold.objects.exists()


def test_mail_whose_content_was_erased_cannot_go_again(script: Script) -> None:
    row = send(script)
    Notification.objects.update(kind="")
    take(report(Fate.FAILED, outcome=LATER))
    assert state_of(row) == State.DEAD


# -- unknown outcomes ---------------------------------------------------------------------------


@pytest.fixture
def lost(script: Script) -> Notification:
    """A row that the provider may have, and that must not go out twice."""
    script.answer(ANN, LOST)
    row = ask(kind=Once)
    jobs.serve("note")
    assert state_of(row) == State.UNKNOWN
    return row


def named(fate: Fate, row: Notification, **fields: Any) -> Report:
    return report(fate, notification_id=row.pk, **fields)


@pytest.mark.parametrize(
    ("fate", "end", "attempt"),
    [
        (Fate.SENT, State.SENT, "accepted"),
        (Fate.DEFERRED, State.SENT, "accepted"),
        (Fate.DELIVERED, State.DELIVERED, "accepted"),
        (Fate.READ, State.READ, "accepted"),
        (Fate.BOUNCED, State.BOUNCED, "accepted"),
        (Fate.COMPLAINED, State.COMPLAINED, "accepted"),
        (Fate.OPTED_OUT, State.UNKNOWN, "unknown"),
    ],
)
def test_a_receipt_settles_what_was_unknown(
    lost: Notification, fate: Fate, end: State, attempt: str
) -> None:
    take(named(fate, lost))
    assert state_of(lost) == end
    assert Attempt.objects.get().outcome == attempt


@pytest.mark.parametrize(("outcome", "end"), [(LATER, State.PENDING), (GONE, State.DEAD)])
def test_a_failure_settles_what_was_unknown(
    lost: Notification, outcome: Outcome, end: State
) -> None:
    take(named(Fate.FAILED, lost, outcome=outcome), named(Fate.SENT, lost))
    assert state_of(lost) == end
    take(named(Fate.DEFERRED, lost))  # late, and weaker than the failure
    assert state_of(lost) == end
    assert Attempt.objects.get().outcome == outcome.verdict


def test_what_was_unknown_is_known_by_the_id_of_its_first_receipt(lost: Notification) -> None:
    """The provider's answer with the id was lost: the receipts that follow each other tell it."""
    take(named(Fate.SENT, lost))
    assert Attempt.objects.get().message_id == "m1"
    take(report(Fate.DELIVERED))
    assert state_of(lost) == State.DELIVERED
    take(report(Fate.READ))
    assert state_of(lost) == State.READ


def test_receipts_of_another_message_do_not_follow_what_was_unknown(lost: Notification) -> None:
    take(named(Fate.SENT, lost))
    take(named(Fate.DELIVERED, lost, message_id="of-another"))
    assert state_of(lost) == State.SENT


def test_a_receipt_saves_the_second_sending_of_what_was_unknown(script: Script) -> None:
    script.answer(ANN, LOST)
    with scripted(_RETRY={"BASE": 60.0}) as running:
        running.answer(ANN, LOST)
        row = ask()
        jobs.serve("note")
        assert state_of(row) == State.PENDING
        take(named(Fate.SENT, row))
        assert state_of(row) == State.SENT
        assert Attempt.objects.get().outcome == "accepted"


def test_a_bounce_saves_the_second_sending_too(script: Script) -> None:
    with scripted(_RETRY={"BASE": 60.0}) as running:
        running.answer(ANN, LOST)
        row = ask()
        jobs.serve("note")
        take(named(Fate.BOUNCED, row, code="550", text="no such user"))
        assert state_of(row) == State.BOUNCED
        assert row.reason == "550 no such user"


def test_an_id_handed_back_says_nothing_of_an_attempt_that_was_accepted(script: Script) -> None:
    """Another environment on the same account has rows of the same numbers."""
    row = send(script)
    take(named(Fate.BOUNCED, row, message_id="of-another"))
    assert state_of(row) == State.SENT


def test_what_came_while_a_worker_had_the_message_is_heard_before_it_goes_again(
    script: Script,
) -> None:
    row = ask()
    Notification.objects.update(token=uuid.uuid4(), started=True)  # its worker died
    take(named(Fate.DELIVERED, row))
    assert state_of(row) == State.PENDING
    jobs.serve("note")  # the lease has run out
    assert (state_of(row), script.sent) == (State.PENDING, [])
    Receipt.objects.update(look_at=Now())
    receipts.sweep()
    assert state_of(row) == State.DELIVERED
    Notification.objects.filter(state=State.PENDING).update(due_at=Now())
    jobs.serve("note")
    assert script.sent == []


def test_what_stays_unknown_becomes_a_dead_letter(lost: Notification) -> None:
    assert receipts.give_up() == 0
    Notification.objects.update(settled_at=Now() - timedelta(hours=25))
    assert receipts.give_up() == 1
    assert state_of(lost) == State.DEAD
    assert "told nothing within 1d" in DeadLetter.objects.get().reason
    take(named(Fate.DELIVERED, lost))  # better late than never
    assert state_of(lost) == State.DELIVERED
    assert not DeadLetter.objects.exists()


def test_what_stays_unknown_goes_again_if_its_kind_may_now(
    lost: Notification, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Once, "at_most_once", False)
    Notification.objects.update(settled_at=Now() - timedelta(hours=25))
    assert receipts.give_up() == 1
    assert state_of(lost) == State.PENDING


def test_what_is_unknown_waits_for_ever_if_told_so(lost: Notification) -> None:
    with scripted(_UNKNOWN_AFTER=None):
        Notification.objects.update(settled_at=Now() - timedelta(days=400))
        assert receipts.give_up() == 0


# -- early receipts -----------------------------------------------------------------------------


def make_due() -> None:
    Receipt.objects.filter(look_at__isnull=False).update(look_at=Now() - timedelta(seconds=1))


def test_a_receipt_that_comes_before_our_settlement_is_applied_after_it(script: Script) -> None:
    row = ask()
    [claimed] = outbox.claim(Notification, "note", 10)
    outbox.start([claimed])
    early = take(named(Fate.DELIVERED, row))
    assert (early.waiting, early.moved) == (1, 0)
    assert state_of(row) == State.PENDING
    make_due()
    assert receipts.sweep().waiting == 1  # still under way
    attempt = Attempt(
        notification=claimed, number=1, provider="first", outcome="accepted", message_id="m1"
    )
    outbox.settle([outbox.Settlement(claimed, State.SENT)], [attempt])
    make_due()
    assert receipts.sweep() == receipts.Taken(applied=1, moved=1)
    assert state_of(row) == State.DELIVERED
    assert receipts.sweep() == receipts.Taken()
    assert Receipt.objects.get().notification == row


def test_an_early_failure_starts_the_retry_it_asked_for(script: Script) -> None:
    early = report(Fate.FAILED, code="131049", outcome=replace(LATER, retry_after=3600.0))
    take(early)
    row = send(script)
    make_due()
    receipts.sweep()
    assert state_of(row) == State.PENDING
    assert row.due_at - row.wanted_at > timedelta(minutes=55)


def test_receipts_about_nothing_of_ours_are_looked_at_less_and_less() -> None:
    take(report(Fate.DELIVERED, "somebody-elses"))
    receipt = Receipt.objects.annotate(now=Now()).get()
    assert timedelta(0) < receipt.look_at - receipt.now <= timedelta(seconds=1)
    received = Now() - timedelta(hours=3)
    Receipt.objects.update(received_at=received, look_at=Now() - timedelta(seconds=1))
    assert receipts.sweep().waiting == 1
    receipt = Receipt.objects.annotate(now=Now()).get()
    assert timedelta(hours=2.9) < receipt.look_at - receipt.now < timedelta(hours=3.1)
    Receipt.objects.update(received_at=Now() - timedelta(days=2))
    make_due()
    receipts.sweep()
    assert Receipt.objects.get().look_at is None
    assert receipts.forget_unmatched(timedelta(days=30)) == 0
    assert receipts.forget_unmatched(timedelta(days=1)) == 1


# -- many at once -------------------------------------------------------------------------------


def make_sent(count: int) -> list[Notification]:
    """Rows as workers leave them, without the workers."""
    with transaction.atomic():
        rows = [ask(f"{number}@example.com") for number in range(count)]
        Notification.objects.update(state=State.SENT, attempts=1, settled_at=Now())
        Attempt.objects.bulk_create(
            Attempt(
                notification=row, number=1, provider="first", outcome="accepted",
                message_id=f"m{row.pk}",
            )
            for row in rows
        )  # fmt: skip
    return rows


def test_a_batch_costs_a_handful_of_queries_however_long_it_is() -> None:
    rows = make_sent(200)
    told = itertools.cycle(
        [
            (Fate.DELIVERED, None, State.DELIVERED),
            (Fate.READ, None, State.READ),
            (Fate.BOUNCED, None, State.BOUNCED),
            (Fate.FAILED, LATER, State.PENDING),
            (Fate.FAILED, GONE, State.DEAD),
        ]
    )
    ends: dict[int, State] = {}
    reports = []
    for row, (fate, outcome, end) in zip(rows, told, strict=False):
        ends[row.pk] = end
        reports.append(report(fate, f"m{row.pk}", code=f"c{row.pk}", outcome=outcome))
    with CaptureQueriesContext(connection) as queries:
        assert take(*reports).moved == 200
    # SQLite takes 55 receipts in one INSERT; nothing else grows with their number.
    assert len(queries) <= 22, [query["sql"][:60] for query in queries]
    assert dict(Notification.objects.values_list("pk", "state")) == ends
    bounced = Notification.objects.filter(state=State.BOUNCED).first()
    assert bounced is not None
    assert bounced.reason == f"c{bounced.pk}"
    assert DeadLetter.objects.count() == 40


@pytest.mark.postgres_only  # SQLite locks no rows
def test_a_message_that_somebody_else_has_in_hand_is_not_waited_for(script: Script) -> None:
    row = send(script)
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(
                "SELECT 1 FROM notifications_notification WHERE id = %s FOR UPDATE", [row.pk]
            )
        began = time.monotonic()
        assert take(report(Fate.DELIVERED)).waiting == 1
        assert time.monotonic() - began < 1
        other.rollback()
    finally:
        other.close()
    make_due()
    assert receipts.sweep().moved == 1
    assert state_of(row) == State.DELIVERED


def test_the_table_lets_no_state_go_backwards() -> None:
    rank = {State.SENT: 1, State.DELIVERED: 2, State.BOUNCED: 3, State.READ: 4, State.COMPLAINED: 5}
    for old, new in itertools.permutations(rank, 2):
        if new in TRANSITIONS[old]:
            assert rank[old] < rank[new]


# -- suppressions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (report(Fate.BOUNCED), "bounce"),
        (report(Fate.COMPLAINED), "complaint"),
        (report(Fate.OPTED_OUT), "opt_out"),
        (report(Fate.FAILED, outcome=replace(GONE, suppress=True)), "opt_out"),
        (report(Fate.FAILED, outcome=GONE, suppress=Fate.OPTED_OUT), "opt_out"),
        (report(Fate.FAILED, outcome=GONE, suppress=Fate.COMPLAINED), "complaint"),
        (report(Fate.FAILED, outcome=GONE), None),
        (report(Fate.DELIVERED), None),
    ],
)
def test_receipts_suppress_the_address(script: Script, told: Report, reason: str | None) -> None:
    send(script)
    take(told)
    found = Suppression.objects.all()
    assert [one.reason for one in found] == ([reason] if reason else [])
    again = ask()
    jobs.serve("note")
    assert state_of(again) == (State.SUPPRESSED if reason else State.SENT)
    found.delete()
    take(told)  # a replay does not bring it back
    assert not found.exists()


def test_an_address_that_a_report_names_is_suppressed_whoever_wrote_to_it() -> None:
    assert conf.provider("first").channels == ("note",)
    take(report(Fate.OPTED_OUT, "", key="stop", to=ANN))
    receipts.take("gone", [report(Fate.OPTED_OUT, "", key="stop", to="bob@example.com")])
    rows = [ask(), ask("bob@example.com")]
    jobs.serve("note")
    assert [state_of(row) for row in rows] == [State.SUPPRESSED, State.SENT]


def test_a_bounced_message_is_not_offered_for_retry(script: Script) -> None:
    row = send(script)
    take(report(Fate.BOUNCED))
    with pytest.raises(Exception, match="only what ended unsent"):
        operations.retry(row)
