"""The inbox: a row that is shown, counted and read; in its reader's language, and nobody else's."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test import override_settings

from notifications import clock, conf, inbox, operations
from notifications.channels.in_app import InAppChannel
from notifications.dispatch import Recipient, notify
from notifications.errors import InvalidAddress, InvalidMessage
from notifications.kinds import Kind
from notifications.models import Notification, State
from notifications.muting import muted
from orders.models import User
from tests.mail_templates import use_templates

pytestmark = pytest.mark.django_db(transaction=True)

TEMPLATES = {
    "notifications/tests.parcel_note/in_app.txt": (
        "{% load i18n %}{% translate 'placed' %}: parcel {{ number }}\n"
        "\nIt's with {{ who }}.\nSee you!\n"
    ),
    "notifications/tests.pin_note/in_app.txt": "Your PIN is {{ pin }}",
    "notifications/tests.empty_note/in_app.txt": "\n\n",
}


class ParcelNote(Kind):
    """Says where a parcel is; `gone` is one that nobody knows any more."""

    name = "tests.parcel_note"
    channels = ("in_app",)
    batches: list[int] = []

    @classmethod
    def prepare(cls, batch: Sequence[Notification]) -> Iterable[Mapping[str, Any]]:
        cls.batches.append(len(batch))
        if any(row.context["number"] == "gone" for row in batch):
            raise KeyError("gone")
        return [{"who": "O'Neill & Sons", **row.context} for row in batch]

    @classmethod
    def link(cls, row: Notification, context: Mapping[str, Any]) -> str:
        return str(context.get("link", f"/parcels/{context['number']}/"))


class PinNote(Kind):
    name = "tests.pin_note"
    secret = True

    @classmethod
    def prepare(cls, batch: Sequence[Notification]) -> Iterable[Mapping[str, Any]]:
        raise AssertionError("a secret was made")


class EmptyNote(Kind):
    name = "tests.empty_note"
    channels = ("in_app",)


@pytest.fixture(autouse=True)
def settings_of_the_test() -> Iterator[None]:
    channels = {"in_app": conf.CHANNEL_DEFAULTS["in_app"]}
    ParcelNote.batches.clear()
    with (
        use_templates(TEMPLATES),
        override_settings(NOTIFICATIONS={"ENVIRONMENT": "test", "CHANNELS": channels}),
    ):
        yield


def make_user(name: str = "ann", **fields: Any) -> User:
    with muted():
        return User.objects.create_user(name, f"{name}@example.com", **fields)


def tell(user: User, number: str = "7", **options: Any) -> Notification:
    context = {"number": number, **options.pop("context", {})}
    with transaction.atomic():
        [row] = notify(ParcelNote, to=user, context=context, **options)
    return row


def state_of(row: Notification) -> str:
    return Notification.objects.get(pk=row.pk).state


# -- writing ------------------------------------------------------------------------------------


def test_a_message_is_delivered_as_soon_as_it_is_committed() -> None:
    ann = make_user()
    row = tell(ann)
    row.refresh_from_db()
    assert (row.state, row.queue, row.to, row.user) == ("delivered", "", str(ann.pk), ann)
    assert row.settled_at == row.created_at
    [item] = inbox.inbox(ann)
    assert (item.id, item.title, item.type) == (row.pk, "placed: parcel 7", "tests.parcel_note")
    assert item.text == "It's with O'Neill & Sons.\nSee you!"
    assert (item.link, item.read, item.at) == ("/parcels/7/", False, row.wanted_at)


def test_rolled_back_means_never_told() -> None:
    ann = make_user()
    with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
        notify(ParcelNote, to=ann, context={"number": "7"})
        _ = 1 / 0
    assert inbox.inbox(ann) == []


def test_the_same_key_tells_once() -> None:
    ann = make_user()
    first, second = tell(ann, key="parcel-7"), tell(ann, key="parcel-7")
    assert first.pk == second.pk
    assert inbox.unread_count(ann) == 1


@pytest.mark.parametrize("to", ["ann@example.com", Recipient(addresses={"in_app": "1"})])
def test_an_inbox_belongs_to_a_user(to: Any) -> None:
    with pytest.raises(InvalidAddress, match="no address for the channel 'in_app'"):
        notify(ParcelNote, to=to)
    assert InAppChannel().address_of(User()) == ""


def test_addresses_do_not_lead_into_anothers_inbox() -> None:
    ann, bob = make_user(), make_user("bob")
    with transaction.atomic():
        notify(ParcelNote, to=Recipient(ann, {"*": str(bob.pk)}), context={"number": "7"})
    assert (inbox.unread_count(ann), inbox.unread_count(bob)) == (1, 0)


def test_a_secret_is_refused_before_anything_is_written() -> None:
    with pytest.raises(InvalidMessage, match="secret"):
        notify(PinNote, to=make_user(), channels=["in_app"])
    assert not Notification.objects.exists()


# -- later --------------------------------------------------------------------------------------


def test_what_is_meant_for_later_appears_when_its_time_comes() -> None:
    ann = make_user()
    later = tell(ann, "later", delay=3600)
    now = tell(ann, "now")
    clock.tick([])
    assert state_of(later) == State.PENDING
    assert inbox.unread_count(ann) == 1
    Notification.objects.filter(pk=later.pk).update(due_at=Now(), wanted_at=Now())
    clock.tick([])
    assert state_of(later) == State.DELIVERED
    assert [item.id for item in inbox.inbox(ann)] == [later.pk, now.pk]


def test_many_that_are_due_are_delivered_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "BATCH", 2)
    ann = make_user()
    for number in range(5):
        tell(ann, str(number), delay=3600)
    Notification.objects.update(due_at=Now())
    assert inbox.deliver_due() == 5
    assert inbox.unread_count(ann) == 5


def test_without_the_channel_nothing_is_asked(django_assert_num_queries: Any) -> None:
    with override_settings(NOTIFICATIONS={"CHANNELS": {}}), django_assert_num_queries(0):
        assert inbox.deliver_due() == 0


def test_a_later_one_can_be_cancelled_and_taken_up_again() -> None:
    ann = make_user()
    row = tell(ann, delay=3600)
    operations.cancel(row)
    assert state_of(row) == State.CANCELLED
    operations.retry(row)
    clock.tick([])
    assert state_of(row) == State.DELIVERED


def test_what_is_too_late_is_not_shown() -> None:
    ann = make_user()
    row = tell(ann, expires_after=timedelta(hours=1))
    assert inbox.unread_count(ann) == 1
    Notification.objects.filter(pk=row.pk).update(expires_at=Now() - timedelta(seconds=1))
    assert inbox.unread_count(ann) == 0
    assert inbox.inbox(ann) == []


# -- reading ------------------------------------------------------------------------------------


def test_nobody_sees_or_reads_what_others_were_told() -> None:
    ann, bob = make_user(), make_user("bob")
    row = tell(ann)
    assert inbox.inbox(bob) == []
    assert inbox.inbox(bob, before=row.pk) == []
    assert inbox.mark_read(bob, [row.pk]) == 0
    assert inbox.mark_read(bob, "all") == 0
    assert inbox.unread_count(ann) == 1


def test_a_visitor_who_is_not_logged_in_has_no_inbox() -> None:
    tell(make_user())
    nobody = AnonymousUser()
    assert inbox.inbox(nobody) == []
    assert inbox.unread_count(nobody) == 0
    assert inbox.mark_read(nobody, "all") == 0


def test_messages_are_read_one_by_one_or_all_at_once() -> None:
    ann = make_user()
    rows = [tell(ann, str(number)) for number in range(4)]
    assert inbox.mark_read(ann, [rows[0].pk, rows[1].pk]) == 2
    assert inbox.mark_read(ann, [rows[0].pk]) == 0
    assert inbox.mark_read(ann, []) == 0
    assert inbox.unread_count(ann) == 2
    assert [item.read for item in inbox.inbox(ann)] == [False, False, True, True]
    assert inbox.mark_read(ann, "all") == 2
    assert inbox.unread_count(ann) == 0
    row = Notification.objects.get(pk=rows[0].pk)
    assert row.state == State.READ
    assert row.settled_at is not None
    assert row.settled_at > row.created_at


@pytest.mark.parametrize("same", [True, False])
def test_pages_follow_each_other_without_gaps_whatever_is_new(same: bool) -> None:
    ann = make_user()
    rows = [tell(ann, str(number)) for number in range(5)]
    if same:
        moment = Notification.objects.get(pk=rows[0].pk).wanted_at
        Notification.objects.update(wanted_at=moment)
    first = inbox.inbox(ann, limit=2)
    tell(ann, "new")
    second = inbox.inbox(ann, limit=2, before=first[-1].id)
    third = inbox.inbox(ann, limit=2, before=second[-1].id)
    seen = [item.id for item in [*first, *second, *third]]
    assert seen == [row.pk for row in reversed(rows)]
    assert inbox.inbox(ann, before=third[-1].id) == []


def test_counting_stops_where_it_is_told_to() -> None:
    ann = make_user()
    for number in range(4):
        tell(ann, str(number))
    assert inbox.unread_count(ann, most=3) == 3


def test_each_reads_in_the_language_of_the_message() -> None:
    ann, ben = make_user(), make_user("ben", language="de")
    for user in (ann, ben):
        tell(user)
    assert inbox.inbox(ann)[0].title == "placed: parcel 7"
    assert inbox.inbox(ben)[0].title == "aufgegeben: parcel 7"


def test_a_page_takes_one_query_and_prepares_each_kind_once(django_assert_num_queries: Any) -> None:
    ann = make_user()
    for number in range(10):
        tell(ann, str(number))
    with django_assert_num_queries(1):
        assert len(inbox.inbox(ann)) == 10
    assert ParcelNote.batches == [10]


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "//evil.example/", "/\\evil.example", "parcels/7", "http:///x"]
)
def test_a_link_that_leads_astray_is_not_shown(link: str) -> None:
    ann = make_user()
    tell(ann, context={"link": link})
    [item] = inbox.inbox(ann)
    assert (item.title, item.link) == ("This message can no longer be shown.", "")


@pytest.mark.parametrize("link", ["/", "/a?b=c#d", "https://shop.example/orders/7/", ""])
def test_other_links_are(link: str) -> None:
    ann = make_user()
    tell(ann, context={"link": link})
    assert inbox.inbox(ann)[0].link == link


def test_one_bad_message_takes_no_other_along(caplog: pytest.LogCaptureFixture) -> None:
    ann = make_user()
    good, gone = tell(ann), tell(ann, "gone")
    with transaction.atomic():
        [empty] = notify(EmptyNote, to=ann)
        [unknown] = notify(EmptyNote, to=ann)
        [secret] = notify(EmptyNote, to=ann)
        [kindless] = notify(EmptyNote, to=ann)
    Notification.objects.filter(pk=unknown.pk).update(kind="of_the_last_release")
    Notification.objects.filter(pk=secret.pk).update(kind="tests.pin_note")
    Notification.objects.filter(pk=kindless.pk).update(kind="")
    with caplog.at_level(logging.WARNING, "notifications.composition"):
        shown = {item.id: item.title for item in inbox.inbox(ann)}
    assert shown.pop(good.pk) == "placed: parcel 7"
    assert shown == dict.fromkeys(
        (gone.pk, empty.pk, unknown.pk, secret.pk, kindless.pk),
        "This message can no longer be shown.",
    )
    assert len(caplog.records) == 2  # of the kinds that are there


def test_a_message_without_a_kind_cannot_be_composed() -> None:
    with pytest.raises(InvalidMessage, match="needs a kind"):
        InAppChannel().compose(Notification(pk=1, channel="in_app", to="1"), None, {})


def test_templates_are_compiled_ahead(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "notifications.templates"):
        InAppChannel().preload([ParcelNote])
    assert caplog.records == []
    with use_templates({}), caplog.at_level(logging.WARNING, "notifications.templates"):
        InAppChannel().preload([ParcelNote])
    assert "tests.parcel_note" in caplog.text


@pytest.mark.postgres_only
def test_both_questions_are_answered_from_their_index() -> None:
    ann, bob = make_user(), make_user("bob")
    Notification.objects.bulk_create(
        Notification(
            channel="in_app", queue="", to="x", user=ann, state=state, context={"number": "7"}
        )
        for state, count in (("read", 3000), ("delivered", 3))
        for _ in range(count)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notifications_notification")
    rows = inbox._shown(ann)
    assert "ntf_message_unread" in rows.filter(state=State.DELIVERED).order_by()[:100].explain()
    page = rows.order_by("-wanted_at", "-pk")[:20].explain()
    assert "ntf_message_inbox" in page
    assert "Sort" not in page
    assert inbox.unread_count(bob) == 0
