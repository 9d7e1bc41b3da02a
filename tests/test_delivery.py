"""The flow of one queue: what each outcome of a provider does to the row."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any

import pytest
from django.db import transaction
from django.db.models.functions import Now

from notifications import conf, holds, jobs, operations
from notifications.composition import Composition, compose
from notifications.delivery import Delivery
from notifications.dispatch import notify
from notifications.kinds import Kind
from notifications.message import Outcome, Verdict
from notifications.models import Attempt, DeadLetter, Hold, Notification, State
from notifications.senders import Result
from tests.scripted import (
    ACCEPTED,
    LATER,
    LOCKED,
    LOST,
    REFUSED,
    SCRIPT,
    THEIRS,
    Note,
    Script,
    scripted,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


def ask(to: str = "ann@example.com", kind: type[Kind] = Note, **options: object) -> Notification:
    with transaction.atomic():
        return notify(kind, to=to, **options)[0]  # type: ignore[arg-type]


def serve() -> None:
    jobs.serve("note")


def outcomes() -> list[str]:
    return list(Attempt.objects.order_by("id").values_list("outcome", flat=True))


def test_an_accepted_message_is_sent_with_one_attempt(script: Script) -> None:
    row = ask()
    serve()
    row.refresh_from_db()
    assert (row.state, row.attempts, row.token, row.started) == (State.SENT, 1, None, False)
    assert row.settled_at is not None
    assert script.rows() == [row.pk]
    attempt = Attempt.objects.get()
    assert (attempt.provider, attempt.outcome, attempt.code) == ("first", "accepted", "250")


def test_a_passing_failure_goes_again_until_it_is_accepted(script: Script) -> None:
    script.answer("ann@example.com", LATER, LATER, ACCEPTED)
    row = ask()
    for _ in range(3):
        serve()
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.SENT, 3)
    assert outcomes() == ["later", "later", "accepted"]


def test_the_waits_are_two_four_and_eight_seconds(script: Script) -> None:
    script.answer("ann@example.com", LATER)
    with scripted(_RETRY={"BASE": 2.0, "JITTER": 0.0}):
        SCRIPT.answer("ann@example.com", LATER)
        row = ask()
        waits = []
        for _ in range(3):
            serve()
            found = Notification.objects.annotate(now=Now()).get()
            waits.append(round((found.due_at - found.now).total_seconds()))
            Notification.objects.update(due_at=Now())
        serve()
    row.refresh_from_db()
    assert waits == [2, 4, 8]
    assert (row.state, row.attempts) == (State.DEAD, 4)


def test_what_fails_at_every_attempt_ends_as_one_dead_letter(script: Script) -> None:
    script.answer("ann@example.com", LATER)
    row = ask()
    for _ in range(6):
        serve()
    row.refresh_from_db()
    letter = DeadLetter.objects.get()
    assert (row.state, row.attempts, len(script.sent)) == (State.DEAD, 4, 4)
    assert (letter.notification, letter.code, letter.attempts) == (row, "451", 4)
    assert "busy" in letter.reason


def test_a_refusal_for_good_gives_up_at_once(script: Script) -> None:
    script.answer("ann@example.com", REFUSED)
    row = ask()
    serve()
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.DEAD, 1)
    assert DeadLetter.objects.get().code == "550"


def test_an_unknown_outcome_goes_again(script: Script) -> None:
    script.answer("ann@example.com", LOST, ACCEPTED)
    row = ask()
    serve()
    serve()
    row.refresh_from_db()
    assert (row.state, outcomes()) == (State.SENT, ["unknown", "accepted"])


def test_an_unknown_outcome_of_an_at_most_once_kind_waits(script: Script) -> None:
    class Voucher(Kind):
        name = "test_voucher"
        channels = ("note",)
        at_most_once = True

    script.answer("ann@example.com", LOST)
    row = ask(kind=Voucher)
    serve()
    serve()
    row.refresh_from_db()
    assert (row.state, len(script.sent)) == (State.UNKNOWN, 1)
    assert not DeadLetter.objects.exists()


def test_an_exception_of_the_provider_is_an_unknown_outcome(script: Script) -> None:
    script.answer("ann@example.com", RuntimeError("secret text"), ACCEPTED)
    row = ask()
    serve()
    serve()
    row.refresh_from_db()
    assert (row.state, outcomes()) == (State.SENT, ["unknown", "accepted"])
    assert not Attempt.objects.filter(text__contains="secret").exists()


def test_the_next_provider_takes_over_what_is_the_first_ones_trouble() -> None:
    with scripted(PROVIDERS=["first", "second"]) as script:
        script.answer("first:ann@example.com", THEIRS)
        row = ask()
        serve()
        row.refresh_from_db()
        assert (row.state, row.attempts) == (State.SENT, 1)
        assert script.sent == [("first", row.pk), ("second", row.pk)]
        attempts = Attempt.objects.order_by("id").values_list("provider", "outcome", "number")
        assert list(attempts) == [("first", "later", 1), ("second", "accepted", 1)]


def test_a_refused_recipient_is_not_tried_at_the_next_provider() -> None:
    with scripted(PROVIDERS=["first", "second"]) as script:
        script.answer("ann@example.com", REFUSED)
        row = ask()
        serve()
        assert script.sent == [("first", row.pk)]


def test_a_locked_account_holds_the_provider_and_burns_no_attempt(script: Script) -> None:
    script.answer("ann@example.com", LOCKED)
    row = ask()
    serve()
    serve()
    row.refresh_from_db()
    held = Hold.objects.get()
    assert (row.state, row.attempts, len(script.sent)) == (State.PENDING, 0, 1)
    assert (held.scope, held.name, held.cause) == ("provider", "first", "provider")
    assert "bad password" in held.reason
    script.answer("ann@example.com", ACCEPTED)
    operations.resume("note")
    serve()
    row.refresh_from_db()
    assert row.state == State.SENT


def test_with_a_second_provider_a_locked_account_loses_no_time() -> None:
    with scripted(PROVIDERS=["first", "second"]) as script:
        script.answer("first:ann@example.com", LOCKED)
        ask()
        ask("bob@example.com")
        serve()
        assert Notification.objects.filter(state=State.SENT).count() == 2
        ask("eve@example.com")
        serve()
        assert script.sent[-1][0] == "second"


def test_what_comes_too_late_expires_unsent(script: Script) -> None:
    row = ask(expires_after=timedelta(seconds=1))
    Notification.objects.update(expires_at=Now() - timedelta(seconds=1))
    serve()
    row.refresh_from_db()
    assert (row.state, row.attempts, script.sent) == (State.EXPIRED, 0, [])


def test_a_retry_that_would_come_too_late_expires(script: Script) -> None:
    script.answer("ann@example.com", LATER)
    row = ask(expires_after=timedelta(seconds=60), base=120)
    serve()
    row.refresh_from_db()
    assert row.state == State.EXPIRED


def test_a_lost_lease_of_an_unstarted_row_costs_nothing(script: Script) -> None:
    row = ask()
    Notification.objects.update(token=uuid.uuid4())
    serve()
    row.refresh_from_db()
    assert (row.state, row.attempts, row.lapses, row.stalls) == (State.SENT, 1, 0, 1)


def serve_until_death(poison: int) -> int:
    """A worker that dies of composing the row `poison`; with how many rows at once it did so."""
    results: SimpleQueue[Result | None] = SimpleQueue()
    delivery = Delivery(conf.channel("note"), results)
    sizes: list[int] = []

    def compose_or_die(batch: list[Notification], channel: Any) -> Composition:
        if poison in [row.pk for row in batch]:
            sizes.append(len(batch))
            raise KeyboardInterrupt
        return compose(batch, channel)

    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr("notifications.delivery.compose", compose_or_die)
        while delivery.busy or not delivery.dry:
            delivery.step(claiming=True)
            with suppress(Empty):
                while (result := results.get(timeout=0.01)) is not None:
                    delivery.take(result)
    Notification.objects.filter(state=State.PENDING).exclude(token=None).update(due_at=Now())
    return sum(sizes)


def test_a_row_that_kills_whoever_composes_it_is_alone_soon_and_ends_as_a_dead_letter(
    script: Script,
) -> None:
    rows = [ask(f"u{n}@example.com") for n in range(80)]
    poison = rows[30].pk
    sizes = [serve_until_death(poison) for _ in range(8)]
    deaths = [size for size in sizes if size]
    assert len(deaths) == 5
    assert all(size <= most for size, most in zip(deaths[1:], (25, 5, 1, 1), strict=True))
    assert sizes[5:] == [0, 0, 0]  # nobody dies of it any more
    dead = Notification.objects.get(state=State.DEAD)
    assert (dead.pk, dead.attempts, DeadLetter.objects.get().code) == (poison, 1, "lease_lost")
    assert Notification.objects.filter(state=State.SENT).count() == 79


def test_what_is_retried_after_that_is_given_every_chance_again(script: Script) -> None:
    row = ask()
    Notification.objects.update(stalls=5)
    serve()
    row.refresh_from_db()
    assert row.state == State.DEAD
    operations.retry(row)
    serve()
    row.refresh_from_db()
    assert (row.state, row.stalls) == (State.SENT, 0)


def test_a_lost_lease_of_a_started_row_is_an_unknown_attempt(script: Script) -> None:
    row = ask()
    Notification.objects.update(token=uuid.uuid4(), started=True)
    serve()
    row.refresh_from_db()
    assert (row.state, row.attempts, row.lapses) == (State.SENT, 2, 1)
    assert list(Attempt.objects.order_by("id").values_list("outcome", "code")) == [
        ("unknown", "lease_lost"),
        ("accepted", "250"),
    ]


def test_a_row_that_kills_its_worker_every_time_ends_as_a_dead_letter(script: Script) -> None:
    row = ask()
    for _ in range(4):
        Notification.objects.filter(state=State.PENDING).update(token=uuid.uuid4(), started=True)
        # Only the lapse is settled in this step: the worker "dies" again before it sends.
        delivery = Delivery(conf.channel("note"), SimpleQueue())
        delivery.step(claiming=True)
    row.refresh_from_db()
    assert (row.state, row.attempts, row.lapses) == (State.DEAD, 4, 4)
    assert DeadLetter.objects.get().code == "lease_lost"
    assert script.sent == []


def test_a_suspect_row_travels_alone(script: Script) -> None:
    rows = [ask(f"u{n}@example.com") for n in range(6)]
    Notification.objects.filter(pk__in=[rows[0].pk, rows[3].pk]).update(lapses=1)
    with_company: list[bool] = []

    def slowly() -> Outcome:
        time.sleep(0.05)
        with_company.append(script.at_once > 1)
        return ACCEPTED

    for suspect in (rows[0], rows[3]):
        script.answer(suspect.to, slowly)
    serve()
    assert with_company == [False, False]
    assert Notification.objects.filter(state=State.SENT).count() == 6
    order = script.rows()
    assert set(order[:4]) == {rows[n].pk for n in (1, 2, 4, 5)}
    assert set(order[4:]) == {rows[0].pk, rows[3].pk}


def test_a_kind_unknown_here_is_given_back_without_an_attempt(script: Script) -> None:
    row = ask()
    Notification.objects.update(kind="from_the_next_release")
    serve()
    found = Notification.objects.annotate(now=Now()).get()
    assert (found.state, found.attempts, found.token) == (State.PENDING, 0, None)
    assert found.due_at > found.now + timedelta(seconds=20)
    assert script.sent == []
    assert row.pk == found.pk


def test_a_context_that_cannot_be_loaded_fails_its_row_and_not_its_neighbours(
    script: Script,
) -> None:
    class Shaky(Kind):
        name = "test_shaky"
        channels = ("note",)

        @classmethod
        def prepare(cls, batch: object) -> list[dict[str, float]]:  # type: ignore[override]
            return [{"share": 1 / row.context["people"]} for row in batch]  # type: ignore[attr-defined]

    bad = ask("bad@example.com", kind=Shaky, context={"people": 0}, retries=0)
    good = ask("good@example.com", kind=Shaky, context={"people": 2})
    serve()
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.state, good.state) == (State.DEAD, State.SENT)
    letter = DeadLetter.objects.get()
    assert letter.error == "ZeroDivisionError"
    assert "prepare" in letter.traceback


def test_a_call_that_takes_too_long_in_all_is_ended_and_unknown(script: Script) -> None:
    with scripted(TIMEOUT=0.3) as short:
        short.answer("slow@example.com", lambda: (time.sleep(2), ACCEPTED)[1])
        row = ask("slow@example.com", retries=0)
        quick = ask("quick@example.com")
        began = time.monotonic()
        serve()
        assert time.monotonic() - began < 2.5
    row.refresh_from_db()
    quick.refresh_from_db()
    assert (row.state, quick.state) == (State.DEAD, State.SENT)
    attempt = Attempt.objects.get(notification=row)
    assert (attempt.outcome, attempt.code) == ("unknown", "deadline")


def test_messages_go_side_by_side_up_to_the_concurrency(script: Script) -> None:
    with scripted(CONCURRENCY=3) as three:
        for n in range(9):
            three.answer(f"u{n}@example.com", lambda: (time.sleep(0.05), ACCEPTED)[1])
            ask(f"u{n}@example.com")
        serve()
        assert three.most_at_once == 3
    assert Notification.objects.filter(state=State.SENT).count() == 9


def test_a_thousand_messages_are_each_sent_once(script: Script) -> None:
    with transaction.atomic():
        for n in range(1000):
            notify(Note, to=f"u{n}@example.com")
    for _ in range(3):
        serve()
    assert Notification.objects.filter(state=State.SENT).count() == 1000
    assert sorted(script.rows()) == sorted(Notification.objects.values_list("pk", flat=True))


def test_one_row_goes_when_asked_for_by_id_though_it_is_not_due(script: Script) -> None:
    row = ask(delay=3600)
    other = ask("bob@example.com", delay=3600)
    jobs.deliver("note", row.pk)
    row.refresh_from_db()
    other.refresh_from_db()
    assert (row.state, other.state) == (State.SENT, State.PENDING)


@pytest.mark.parametrize("scope", ["queue", "kind", "all"])
def test_one_row_asked_for_by_id_is_not_sent_while_it_is_held(script: Script, scope: str) -> None:
    row = ask(delay=3600)
    holds.hold(scope, {"queue": "note", "kind": "test_note", "all": ""}[scope], reason="no")
    due = Notification.objects.get().due_at
    jobs.deliver("note", row.pk)
    row.refresh_from_db()
    assert (row.state, row.token, row.due_at, script.sent) == (State.PENDING, None, due, [])


def test_one_row_asked_for_on_another_channel_stays_as_it_is(script: Script) -> None:
    row = ask(delay=3600)
    Notification.objects.update(channel="another")
    jobs.deliver("note", row.pk)
    row.refresh_from_db()
    assert (row.token, script.sent) == (None, [])


def test_what_comes_too_soon_to_one_person_does_not_come_due_together(script: Script) -> None:
    too_soon = Outcome(Verdict.LATER, code="131056", retry_after=6.0, patient=True)
    script.answer("ann@example.com", ACCEPTED, too_soon)
    for _ in range(5):
        ask()
    serve()
    waiting = Notification.objects.filter(state=State.PENDING).annotate(now=Now())
    waits = sorted(round((row.due_at - row.now).total_seconds()) for row in waiting)
    assert waits == pytest.approx([6, 12, 18, 24], abs=2)
    assert set(waiting.values_list("attempts", flat=True)) == {0}


def test_a_cancelled_row_is_not_sent_though_it_was_claimed(script: Script) -> None:
    row = ask()
    operations.cancel(row)
    serve()
    row.refresh_from_db()
    assert (row.state, script.sent) == (State.CANCELLED, [])


def test_outside_production_only_named_recipients_are_written_to(script: Script) -> None:
    with scripted(_RECIPIENTS=["*@staff.example.com"]) as strict:
        ann, bob = ask("ann@example.com"), ask("bob@staff.example.com")
        serve()
        ann.refresh_from_db()
        bob.refresh_from_db()
        assert (ann.state, bob.state) == (State.SUPPRESSED, State.SENT)
        assert "RECIPIENTS" in ann.reason
        assert strict.rows() == [bob.pk]


def test_outside_production_messages_can_be_redirected(script: Script) -> None:
    with scripted(_RECIPIENTS={"REDIRECT": {"note": "me@example.com"}}) as redirected:
        redirected.answer("ann@example.com", REFUSED)
        row = ask("ann@example.com")
        serve()
        row.refresh_from_db()
        assert (row.state, row.to) == (State.SENT, "ann@example.com")


def test_an_old_backlog_waits_for_a_person(script: Script) -> None:
    old, new = ask("old@example.com"), ask("new@example.com")
    Notification.objects.filter(pk=old.pk).update(wanted_at=Now() - timedelta(days=4))
    serve()
    old.refresh_from_db()
    new.refresh_from_db()
    assert (old.state, new.state) == (State.PENDING, State.SENT)
    assert "waits for a person" in old.reason
    assert Hold.objects.get().scope == "backlog"
    operations.resume("note")
    serve()
    old.refresh_from_db()
    assert old.state == State.SENT


def test_the_content_of_a_paused_queue_stays_where_it_is(script: Script) -> None:
    row = ask()
    operations.pause("note", reason="maintenance")
    serve()
    row.refresh_from_db()
    assert (row.state, row.token, script.sent) == (State.PENDING, None, [])


def test_a_held_kind_waits_while_others_go(script: Script) -> None:
    class Promo(Kind):
        name = "test_promo"
        channels = ("note",)

    promo, note = ask(kind=Promo), ask()
    holds.hold("kind", "test_promo", reason="legal asks")
    serve()
    promo.refresh_from_db()
    note.refresh_from_db()
    assert (promo.state, note.state) == (State.PENDING, State.SENT)


def test_stopping_gives_back_what_was_not_started(script: Script) -> None:
    for n in range(40):
        script.answer(f"u{n}@example.com", lambda: (time.sleep(0.05), jobs.STOP.set(), ACCEPTED)[2])
        ask(f"u{n}@example.com")
    try:
        serve()
    finally:
        jobs.STOP.clear()
    assert 0 < len(script.sent) < 40
    assert Notification.objects.filter(state=State.SENT).count() == len(script.sent)
    assert Notification.objects.filter(state=State.PENDING, token=None, started=False).count() == (
        40 - len(script.sent)
    )
