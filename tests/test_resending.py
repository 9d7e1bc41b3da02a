"""A message that went out, sent once more by a person."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models.functions import Now

from notifications import jobs, operations
from notifications.dispatch import notify, send_email
from notifications.errors import WrongState
from notifications.models import Notification, State
from tests.orders.shop import make_customer
from tests.scripted import Note, Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)


class Brief(Note):
    """A kind that is soon too late."""

    name = "test_brief"
    expires_after: ClassVar[timedelta | None] = timedelta(minutes=10)


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


@pytest.fixture
def ann() -> Any:
    return get_user_model().objects.create_user("ann")


def sent(**options: Any) -> Notification:
    with transaction.atomic():
        (row,) = notify(Note, to="bob@example.com", context={"order_id": 7}, **options)
    jobs.serve("note")
    row.refresh_from_db()
    assert row.state == State.SENT
    return row


def test_what_was_sent_goes_out_once_more_as_a_new_row(script: Script, ann: Any) -> None:
    row = sent(about=ann, language="de", key="once")
    again = operations.resend(row, by=ann)
    jobs.serve("note")
    again.refresh_from_db()
    assert (again.state, again.resend_of) == (State.SENT, row)
    for field in ("kind", "channel", "to", "context", "language", "about_type", "about_id"):
        assert getattr(again, field) == getattr(row, field)
    assert script.rows() == [row.pk, again.pk]
    told = LogEntry.objects.order_by("pk").values_list("object_id", "change_message")
    assert list(told) == [
        (str(row.pk), f"Sent again as #{again.pk}."),
        (str(again.pk), f"Sent again for #{row.pk}."),
    ]


def test_the_same_key_sends_once_and_another_key_again(ann: Any) -> None:
    row = sent()
    first = operations.resend(row, key="a", by=ann)
    assert operations.resend(row, key="a", by=ann) == first
    assert LogEntry.objects.count() == 2
    assert operations.resend(row, key="b") != first
    assert Notification.objects.filter(resend_of=row).count() == 2


@pytest.mark.parametrize("state", ["pending", "dead", "cancelled", "expired", "suppressed"])
def test_what_did_not_go_out_is_not_sent_again(state: str) -> None:
    row = sent()
    Notification.objects.update(state=state)
    with pytest.raises(WrongState, match=f"is {state}: only what went out"):
        operations.resend(row)
    assert Notification.objects.count() == 1


@pytest.mark.parametrize("state", ["delivered", "read", "unknown", "bounced", "complained"])
def test_whatever_may_have_gone_out_can_be_sent_again(state: str) -> None:
    row = sent()
    Notification.objects.update(state=state)
    assert operations.resend(row).state == State.PENDING


def test_mail_without_a_kind_is_sent_again_only_while_its_content_is_there() -> None:
    with scripted(_CHANNELS={"email": {}}), transaction.atomic():
        (row,) = send_email(to="bob@example.com", subject="s", text="t")
        Notification.objects.update(state=State.UNKNOWN)
        again = operations.resend(row)
        assert bytes(again.content) == row.content
        Notification.objects.update(state=State.SENT, content=None)
        with pytest.raises(WrongState, match="was erased"):
            operations.resend(row)


def test_it_is_too_late_only_when_its_new_time_is_over() -> None:
    row = sent()
    Notification.objects.update(kind=Brief.name, expires_at=Now() - timedelta(days=1))
    again = operations.resend(row)
    assert again.expires_at - again.created_at == timedelta(minutes=10)


def test_a_message_in_the_inbox_is_there_a_second_time() -> None:
    user = make_customer()
    with scripted(_CHANNELS={"in_app": {}}), transaction.atomic():
        (row,) = notify(Note, to=user, channels=["in_app"])
        again = operations.resend(row)
    assert (again.state, again.user_id) == (State.DELIVERED, user.pk)
    assert again.settled_at is not None
