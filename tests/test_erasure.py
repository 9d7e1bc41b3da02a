"""Personal data goes out of old messages, and out of all of one person's; the facts stay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.core import serializers
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models.functions import Now
from django.test import override_settings

from notifications import erasure, jobs, models, operations, receipts, suppressions
from notifications.dispatch import notify
from notifications.erasure import Erased, erase_old, erase_person
from notifications.errors import WrongState
from notifications.message import Fate, Outcome, Report, Verdict
from notifications.models import DeadLetter, Notification, PushSubscription, Receipt, State, Task
from notifications.muting import muted
from notifications.notifications import erase
from notifications.previews import preview
from notifications.suppressions import Reason, Unwanted
from tests.orders.shop import make_customer
from tests.scripted import LATER, LOST, REFUSED, SETTINGS, Note, Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)

ANN = "Ann.Onym@example.com"
WAMID = "wamid.QW5uLk9ueW0"  # the provider's id, with the address inside
WORD = "marzipan"


class QuietNote(Note):
    """Sent at most once."""

    name = "test_quiet"
    at_most_once = True


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


def ask(to: Any = ANN, kind: Any = Note, **options: Any) -> Notification:
    with transaction.atomic():
        return notify(kind, to=to, context={"word": WORD}, **options)[0]


def serve(row: Notification) -> Notification:
    jobs.serve("note")
    row.refresh_from_db()
    return row


def sent(script: Script, to: Any = ANN) -> Notification:
    """A message that went out and was bounced, with all that is kept of it."""
    address = to if isinstance(to, str) else to.email
    said = f"by {address}"
    script.answer(address, Outcome(Verdict.ACCEPTED, message_id=WAMID, text=said))
    row = serve(ask(to))
    receipts.take("first", [Report(Fate.BOUNCED, WAMID, f"{WAMID}:failed", text=said)])
    row.refresh_from_db()
    assert row.state == State.BOUNCED
    return row


def age(row: Notification, days: int) -> Notification:
    at = Now() - timedelta(days=days)
    Notification.objects.filter(pk=row.pk).update(created_at=at, settled_at=at)
    return row


def everything() -> str:
    """Every row the app has, as text."""
    rows = [
        row
        for each in vars(models).values()
        if isinstance(each, type) and issubclass(each, models.Work.__base__)
        if not each._meta.abstract and not each._meta.proxy and each._meta.managed
        for row in each._default_manager.all()
    ]
    return serializers.serialize("json", rows)


def test_what_ended_long_ago_keeps_its_facts_only(script: Script) -> None:
    row = age(sent(script), 15)
    for each in (ANN, WAMID, WORD):
        assert each in everything()
    assert erase_old(dry_run=True) == 1
    assert erase_old() == 1
    for each in (ANN, WAMID, WORD):
        assert each not in everything()
    row.refresh_from_db()
    [attempt] = row.attempt_set.all()
    [receipt] = row.receipt_set.all()
    assert (row.kind, row.state, attempt.outcome, receipt.fate) == (
        "test_note", State.BOUNCED, "accepted", "bounced",
    )  # fmt: skip
    assert row.erased_at is not None
    assert erase_old() == 0


def test_messages_of_one_key_are_erased_with_their_key() -> None:
    with transaction.atomic():
        rows = notify(Note, to=[ANN, "bob@example.com"], key=f"wishes-of-{ANN}")
    for row in rows:
        age(serve(row), 15)
    assert erase_old() == 2
    assert ANN not in everything()


def test_what_is_young_dead_or_waiting_keeps_what_it_holds(script: Script) -> None:
    young = age(sent(script), 13)
    script.answer("bob@example.com", REFUSED)
    dead = age(serve(ask("bob@example.com")), 40)
    waiting = age(ask("eve@example.com", delay=999), 40)
    assert erase_old() == 0
    for row in (young, dead, waiting):
        row.refresh_from_db()
        assert row.to
        assert row.context == {"word": WORD}


def test_inboxes_keep_their_messages() -> None:
    channels = {**SETTINGS["CHANNELS"], "in_app": {}}
    with override_settings(NOTIFICATIONS={**SETTINGS, "CHANNELS": channels}):
        row = age(ask(make_customer(), channels=["in_app"]), 20)
        assert erase_old() == 0
    row.refresh_from_db()
    assert row.context == {"word": WORD}


@pytest.mark.parametrize(("setting", "erased"), [("10d", 1), ("30d", 0), (None, 0)])
def test_the_time_is_a_setting_and_every_night_is_when(
    script: Script, setting: str | None, erased: int
) -> None:
    age(sent(script), 15)
    with override_settings(NOTIFICATIONS={**SETTINGS, "ERASE_AFTER": setting}):
        with transaction.atomic():
            erase.enqueue()
        jobs.serve("default")
    task = Task.objects.get()
    assert (task.state, task.result) == (State.DONE, erased)


def test_what_is_retried_while_the_old_is_erased_keeps_what_it_says(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ask()
    operations.cancel(row)
    age(row, 15)
    choose = erasure.batches

    def batches(rows: Any) -> Iterator[list[int]]:
        for ids in choose(rows):
            operations.retry(row)
            yield ids

    monkeypatch.setattr(erasure, "batches", batches)
    assert erase_old() == 0
    assert serve(row).state == State.SENT
    assert (row.to, row.erased_at) == (ANN, None)


def test_nothing_sends_an_erased_message_again(script: Script) -> None:
    row = age(sent(script), 15)
    cancelled = ask("bob@example.com")
    operations.cancel(cancelled)
    age(cancelled, 15)
    assert erase_old() == 2
    row.refresh_from_db()
    with pytest.raises(WrongState, match="erased"):
        operations.retry(cancelled)
    with pytest.raises(WrongState, match="erased"):
        operations.resend(row)
    with pytest.raises(LookupError, match="erased"):
        preview(row)
    late = Report(Fate.FAILED, "", "late", notification_id=row.pk, outcome=LATER)
    assert receipts.take("first", [late]).applied == 0
    row.refresh_from_db()
    assert row.state == State.BOUNCED


def test_one_person_is_erased_whatever_became_of_the_messages(script: Script) -> None:
    ann = make_customer(email=ANN)
    bob = make_customer("bob")
    with muted():
        bob.email = ANN  # one household, one address
        bob.save()
    gone = [age(ask(ann, delay=999), 0)]
    script.answer(ANN, REFUSED)
    gone.append(serve(ask(ann)))
    script.answer(ANN, LOST)
    gone.append(serve(ask(ann, QuietNote)))
    gone.append(serve(ask(ANN.lower(), delay=999)))
    gone.append(sent(script, ann))
    bobs = ask(bob, delay=999)
    suppressions.add([Unwanted("note", ANN, Reason.OPT_OUT, "test")])
    PushSubscription.objects.create(user=ann, digest="x", host="push.example", sealed=b"x")
    PushSubscription.objects.create(user=bob, digest="y", host="push.example", sealed=b"y")
    assert DeadLetter.objects.count() == 1

    found = erase_person(ann, dry_run=True)
    erased = operations.erase(ann, by=bob)

    assert found == erased == Erased(messages=5, cancelled=2, busy=0)
    for row in gone:
        row.refresh_from_db()
        assert (row.to, row.context, row.user_id) == ("", {}, None)
    assert [row.state for row in gone] == ["cancelled", "dead", "dead", "cancelled", "bounced"]
    assert not DeadLetter.objects.exists()
    assert suppressions.find("note", ANN)
    assert PushSubscription.objects.get().user == bob
    bobs.refresh_from_db()
    assert (bobs.to, bobs.state) == (ANN, State.PENDING)
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_repr) == (bob, f"user {ann.pk}")
    assert "5 messages" in entry.change_message
    assert erase_person(ann) == Erased(0, 0, 0)


def test_who_erased_whom_is_in_the_apps_audit_log_without_an_address() -> None:
    with muted():
        ann = make_customer(email=ANN)
        ann.username = ANN  # as in many shops
        ann.save()
    ask(ann)
    ask("eve@example.com")
    operations.erase(ann, addresses=["eve@example.com", ANN], by=ann)
    operations.erase(addresses=["eve@example.com"], by=ann)
    entries = LogEntry.objects.filter(content_type__app_label="notifications").order_by("pk")
    assert [(each.object_repr, each.change_message) for each in entries] == [
        (f"user {ann.pk}, 2 addresses", "Erased from 2 messages."),
        ("1 address", "Erased from 0 messages."),
    ]
    assert entries.count() == LogEntry.objects.count()
    assert "@" not in serializers.serialize("json", entries)


def test_what_a_worker_has_in_hand_is_left_and_counted() -> None:
    row = ask()
    Notification.objects.filter(pk=row.pk).update(token=uuid4(), started=True)
    assert erase_person(addresses=[ANN]) == Erased(0, 0, 1)
    row.refresh_from_db()
    assert row.to == ANN


def run(*args: str) -> str:
    out = StringIO()
    call_command("notifications_erase", *args, stdout=out)
    return out.getvalue()


def test_the_command_counts_asks_and_erases() -> None:
    ann = make_customer(email=ANN)
    ask(ann)
    assert "1 messages would be erased" in run("--user", str(ann.pk), "--dry-run")
    with pytest.raises(CommandError, match="--no-input"):
        run("--user", str(ann.pk))
    told = json.loads(run("--user", str(ann.pk), "--no-input", "--json"))
    assert told == {"messages": 1, "cancelled": 1, "busy": 0, "dry_run": False}
    assert Notification.objects.get().state == State.CANCELLED


@pytest.mark.parametrize("args", [(), ("--user", "0"), ("--user", "ann")])
def test_the_command_wants_to_know_whom(args: tuple[str, ...]) -> None:
    with pytest.raises(CommandError) as refused:
        run(*args, "--no-input")
    assert refused.value.returncode == 2


def test_the_command_fails_while_a_worker_has_one_in_hand() -> None:
    row = ask()
    Notification.objects.filter(pk=row.pk).update(token=uuid4(), started=True)
    with pytest.raises(CommandError, match="right now") as refused:
        run("--address", ANN, "--no-input")
    assert refused.value.returncode == 1
    assert Receipt.objects.count() == 0
