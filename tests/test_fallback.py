"""One channel instead of the other: the next takes over when one cannot reach the recipient."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connections, router, transaction
from django.db.models.functions import Now
from django.test import override_settings

from notifications import conf, fallback, holds, jobs, operations, receipts, retention
from notifications.dispatch import Recipient, notify, notify_many
from notifications.errors import InvalidAddress
from notifications.kinds import Fallback, Kind
from notifications.message import Fate, Outcome, Report, Verdict
from notifications.models import DeadLetter, Notification, State
from tests.orders.shop import make_customer
from tests.scripted import LATER, REFUSED, SCRIPT, SETTINGS, NoteChannel, Script

pytestmark = pytest.mark.django_db(transaction=True)

QUEUES = {name: {"URL": "redis://127.0.0.1:1/0"} for name in ("default", "note", "chat", "post")}


class ChatChannel(NoteChannel):
    """Knows people whose address begins with "chat"."""

    name = "chat"

    def address_of(self, user: Any) -> str:
        return ""

    def clean(self, address: str) -> str:
        if not address.startswith("chat"):
            raise InvalidAddress("a chat address begins with chat")
        return super().clean(address)


class Parcel(Kind):
    """Reaches people by chat, else by note, else by post."""

    name = "test_parcel"
    channels = Fallback("chat", "note", "post")


EVERYWHERE = Recipient(
    addresses={"chat": "chat-ann@example.com", "note": "ann@example.com", "post": "p@example.com"}
)


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    SCRIPT.__init__()  # type: ignore[misc]
    entry = {"PROVIDERS": ["first"]}
    channels = {
        "chat": {**entry, "BACKEND": "tests.test_fallback.ChatChannel", "QUEUE": "chat"},
        "note": {**entry, "BACKEND": "tests.scripted.NoteChannel", "QUEUE": "note"},
        "post": {**entry, "BACKEND": "tests.scripted.NoteChannel", "QUEUE": "post"},
    }
    with override_settings(NOTIFICATIONS={**SETTINGS, "CHANNELS": channels}, RQ_QUEUES=QUEUES):
        holds.forget()
        yield SCRIPT
    holds.forget()


def ask(to: object = EVERYWHERE, **options: object) -> list[Notification]:
    with transaction.atomic():
        return notify(Parcel, to=to, **options)  # type: ignore[arg-type]


def serve() -> None:
    for queue in ("chat", "note", "post"):
        jobs.serve(queue)


def rows() -> list[tuple[str, str]]:
    return list(Notification.objects.order_by("id").values_list("channel", "state"))


def test_it_is_one_row_on_the_first_channel(script: Script) -> None:
    [row] = ask(context={"parcel": 7})
    assert (row.channel, row.queue, row.to) == ("chat", "chat", "chat-ann@example.com")
    serve()
    assert rows() == [("chat", State.SENT)]


def test_who_has_no_address_on_the_first_is_reached_on_the_next(script: Script) -> None:
    [row] = ask("ann@example.com")
    assert (row.channel, row.to) == ("note", "ann@example.com")
    with pytest.raises(InvalidAddress, match="begins with chat"):
        ask("nobody")
    with transaction.atomic():
        assert notify_many(Parcel, ["bob@example.com", "nobody"]) == 1


def test_the_next_channel_takes_over_what_one_refuses(script: Script) -> None:
    script.answer("chat-ann@example.com", REFUSED)
    [row] = ask(context={"parcel": 7}, priority=1, language="de", expires_after=None)
    serve()
    assert rows() == [("chat", State.DEAD), ("note", State.SENT)]
    follower = Notification.objects.get(channel="note")
    assert follower.instead_of == row
    assert (follower.kind, follower.context, follower.priority, follower.language) == (
        "test_parcel", {"parcel": 7}, 1, "de",
    )  # fmt: skip
    assert not DeadLetter.objects.exists()  # nothing gave up


def test_only_the_last_one_leaves_a_dead_letter(script: Script) -> None:
    for address in ("chat-ann@example.com", "ann@example.com", "p@example.com"):
        script.answer(address, REFUSED)
    ask()
    serve()
    assert rows() == [("chat", State.DEAD), ("note", State.DEAD), ("post", State.DEAD)]
    assert DeadLetter.objects.get().notification.channel == "post"  # type: ignore[union-attr]


def test_attempts_are_the_channels_own(script: Script) -> None:
    script.answer("chat-ann@example.com", LATER)
    ask()
    for _ in range(4):
        serve()
    assert rows() == [("chat", State.DEAD), ("note", State.SENT)]
    assert list(Notification.objects.order_by("id").values_list("attempts", flat=True)) == [4, 1]


def test_a_suppressed_address_falls_back_too(script: Script) -> None:
    rule = ["ann@example.com"]
    with override_settings(
        NOTIFICATIONS={"ENVIRONMENT": "test", **SETTINGS, "RECIPIENTS": rule,
                       "CHANNELS": conf.get("CHANNELS")}
    ):  # fmt: skip
        ask()
        ask()
        serve()
    assert rows() == [("chat", State.SUPPRESSED)] * 2 + [("note", State.SENT)] * 2


def test_what_may_have_arrived_or_comes_too_late_goes_no_other_way(script: Script) -> None:
    script.answer("chat-ann@example.com", Outcome(Verdict.UNKNOWN))
    ask(retries=3)
    serve()
    [cancelled] = ask()
    operations.cancel(cancelled)
    assert {channel for channel, _state in rows()} == {"chat"}


class Voucher(Kind):
    """Must not be had twice, on whatever channel."""

    name = "test_voucher_by_chat"
    channels = Fallback("chat", "note")
    at_most_once = True


def test_what_may_have_arrived_and_must_not_come_twice_waits_for_a_person(script: Script) -> None:
    script.answer("chat-ann@example.com", Outcome(Verdict.UNKNOWN))
    with transaction.atomic():
        notify(Voucher, to=EVERYWHERE)
    serve()
    assert rows() == [("chat", State.UNKNOWN)]
    Notification.objects.update(settled_at=Now() - timedelta(hours=25))
    receipts.give_up()
    serve()
    assert rows() == [("chat", State.DEAD)]
    assert DeadLetter.objects.get().code == "unknown"


def test_who_must_wait_longer_than_the_message_is_of_use_is_reached_on_the_next_channel(
    script: Script,
) -> None:
    day = Outcome(Verdict.LATER, code="131049", text="tomorrow", retry_after=86_400.0)
    script.answer("chat-ann@example.com", day)
    ask(expires_after=timedelta(hours=6))
    serve()
    assert rows() == [("chat", State.DEAD), ("note", State.SENT)]
    assert not DeadLetter.objects.exists()


def test_so_is_who_must_wait_so_long_by_a_receipt(script: Script) -> None:
    script.answer("chat-ann@example.com", Outcome(Verdict.ACCEPTED, message_id="m1"))
    ask(expires_after=timedelta(hours=6))
    serve()
    day = Outcome(Verdict.LATER, code="131049", text="tomorrow", retry_after=86_400.0)
    receipts.take("first", [Report(Fate.FAILED, "m1", "k1", outcome=day)])
    serve()
    assert rows() == [("chat", State.DEAD), ("note", State.SENT)]


def test_a_receipt_starts_the_next_channel_in_its_own_transaction(script: Script) -> None:
    [row] = ask()
    serve()
    using = router.db_for_write(Notification)
    with transaction.atomic(using=using):
        row = Notification.objects.get(pk=row.pk)
        Notification.objects.filter(pk=row.pk).update(state=State.BOUNCED)
        follower = fallback.follow(row, using)
    assert follower is not None
    assert (follower.channel, follower.fallback) == ("note", [["post", "p@example.com"]])
    serve()
    assert rows() == [("chat", State.BOUNCED), ("note", State.SENT)]


def test_it_is_never_followed_twice(script: Script) -> None:
    script.answer("chat-ann@example.com", REFUSED)
    [row] = ask()
    serve()
    row.refresh_from_db()
    with transaction.atomic():
        assert fallback.follow(row, "default") is None
    assert not DeadLetter.objects.exists()
    operations.retry(row)
    serve()
    assert DeadLetter.objects.get().notification == row
    assert [channel for channel, _state in rows()] == ["chat", "note"]
    with pytest.raises(IntegrityError):
        Notification.objects.create(channel="post", queue="post", to="x@y", instead_of=row)


def test_a_key_covers_the_followers(script: Script) -> None:
    script.answer("chat-ann@example.com", REFUSED)
    [row] = ask(key="parcel-7")
    serve()
    assert ask(key="parcel-7") == [row]
    serve()
    assert rows() == [("chat", State.DEAD), ("note", State.SENT)]


def test_a_key_that_the_next_channel_knows_sends_nothing_more(script: Script) -> None:
    script.answer("chat-ann@example.com", REFUSED)
    ask(channels=["note"], key="parcel-7")
    ask(key="parcel-7")
    serve()
    assert rows() == [("note", State.SENT), ("chat", State.DEAD)]
    assert DeadLetter.objects.count() == 1


def test_a_channel_that_is_gone_is_passed_over(script: Script) -> None:
    script.answer("chat-ann@example.com", REFUSED)
    [row] = ask()
    Notification.objects.filter(pk=row.pk).update(
        fallback=[["pigeon", "loft 3"], ["post", "p@example.com"]]
    )
    serve()
    assert rows() == [("chat", State.DEAD), ("post", State.SENT)]


def test_a_plain_tuple_still_means_all(script: Script) -> None:
    assert len(ask(channels=("chat", "note", "post"))) == 3
    [row] = ask(channels=Fallback("note", "post"))
    assert row.channel == "note"


def test_one_of_several_messages_may_fall_back() -> None:
    first, second = ask(channels=("post", Fallback("chat", "note")))
    assert (first.channel, first.fallback) == ("post", None)
    assert (second.channel, second.fallback) == ("chat", [("note", "ann@example.com")])


def test_a_kind_knows_every_channel_it_may_go_out_on() -> None:
    assert Parcel.channel_names() == {"chat", "note", "post"}
    mixed = type("Mixed", (Kind,), {"channels": ("post", Fallback("chat", "pigeon"))})
    assert mixed.channel_names() == {"chat", "pigeon", "post"}


def test_a_failure_told_by_a_receipt_takes_the_next_channel(script: Script) -> None:
    script.answer("chat-ann@example.com", Outcome(Verdict.ACCEPTED, message_id="m1"))
    [first] = ask()
    serve()
    gone = Outcome(Verdict.PERMANENT, code="131026", text="not on this service")
    receipts.take("first", [Report(Fate.FAILED, "m1", "k1", outcome=gone)])
    assert rows() == [("chat", State.DEAD), ("note", State.PENDING)]
    assert not DeadLetter.objects.exists()
    receipts.take("first", [Report(Fate.FAILED, "m1", "k2", outcome=gone)])
    assert len(rows()) == 2
    first.refresh_from_db()
    assert first.reason == "131026 not on this service"


def test_nobody_falls_back_to_an_address_that_was_erased(script: Script) -> None:
    [row] = ask()
    assert operations.erase(addresses=["ANN@example.com"]).messages == 0
    row.refresh_from_db()
    assert (row.to, row.fallback) == ("chat-ann@example.com", [["post", "p@example.com"]])
    script.answer("chat-ann@example.com", REFUSED)
    serve()
    assert rows() == [("chat", State.DEAD), ("post", State.SENT)]


def test_an_address_that_is_erased_while_the_message_is_under_way_is_not_written_to(
    script: Script,
) -> None:
    def refuse() -> Outcome:
        operations.erase(addresses=["ann@example.com", "p@example.com"])
        connections.close_all()
        return REFUSED

    script.answer("chat-ann@example.com", refuse)
    [row] = ask()
    serve()
    row.refresh_from_db()
    assert (rows(), row.fallback) == ([("chat", State.DEAD)], None)
    assert DeadLetter.objects.get().notification == row


def test_a_users_own_addresses_are_closed_unless_the_message_is_anothers(script: Script) -> None:
    ann, bob = make_customer("ann"), make_customer("bob")
    ways = {"chat": "chat-x@example.com", "note": ann.email}
    [nobodys] = ask(Recipient(addresses=ways))
    [bobs] = ask(Recipient(user=bob, addresses=ways))
    operations.erase(ann)
    for row in (nobodys, bobs):
        row.refresh_from_db()
    assert nobodys.fallback is None
    assert bobs.fallback[0] == ["note", ann.email]


def test_ways_are_looked_through_a_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for _each in range(5):
        ask()
    operations.erase(addresses=["p@example.com"])
    left = Notification.objects.values_list("fallback", flat=True)
    assert list(left) == [[["note", "ann@example.com"]]] * 5
