"""Whose inbox a message is in: people know users by their names, not by their keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from notifications.dispatch import notify
from notifications.models import Notification
from notifications.muting import muted
from orders.models import User
from tests.admin.screens import boss, list_of, page_of, staff, text_of
from tests.scripted import SETTINGS, Note, scripted

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "annabel@example.org"


class Letter(Note):
    """A kind for an inbox."""

    name = "test_letter"
    channels = ("in_app",)


@pytest.fixture(autouse=True)
def inbox() -> Iterator[None]:
    with scripted(_CHANNELS={**SETTINGS["CHANNELS"], "in_app": {}}):
        yield


def write(name: str = NAME) -> Notification:
    with muted():
        user = User.objects.create_user(name, name)
    with transaction.atomic():
        (row,) = notify(Letter, to=user)
    return row


def test_the_reader_is_named_and_linked() -> None:
    row = write()
    link = f'<a href="/admin/orders/user/{row.user_id}/change/">{NAME}</a>'
    client = boss()
    assert link in text_of(client, list_of("notification"))
    assert link in text_of(client, page_of(row))


def test_who_may_not_open_users_sees_the_name_without_a_link() -> None:
    row = write()
    content = text_of(staff("view_notification", "view_content"), page_of(row))
    assert NAME in content
    assert "/admin/orders/user/" not in content


@pytest.mark.parametrize("page", ["list", "one"])
def test_who_may_not_see_recipients_sees_neither_name_nor_key(page: str) -> None:
    row = write()
    client = staff("view_notification", "orders.view_user")
    content = text_of(client, list_of("notification") if page == "list" else page_of(row))
    assert "a…@e….org" in content
    assert NAME not in content
    assert f"/admin/orders/user/{row.user_id}/" not in content


def test_a_reader_who_is_gone_is_a_key() -> None:
    row = write()
    User.objects.filter(pk=row.user_id).delete()
    shown = f'<span class="ntf-address">{row.to}</span>'
    assert shown in text_of(boss(), list_of("notification"))


def test_many_readers_take_one_query() -> None:
    def count(client: Client) -> int:
        with CaptureQueriesContext(connection) as queries:
            text_of(client, list_of("notification"))
        return len(queries)

    client = boss()
    write()
    count(client)  # content types are looked up once
    few = count(client)
    for number in range(5):
        write(f"reader{number}@example.org")
    assert count(client) == few
