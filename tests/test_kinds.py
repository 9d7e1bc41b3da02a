"""Kinds register themselves, once."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from notifications.errors import UnknownKind
from notifications.kinds import Kind, all_kinds, get_kind
from notifications.models import Notification
from tests.scripted import Note


def test_a_kind_is_found_by_its_name() -> None:
    assert get_kind("test_note") is Note
    assert all_kinds()["test_note"] is Note


def test_an_unknown_kind_says_where_kinds_are_declared() -> None:
    with pytest.raises(UnknownKind, match=r"notifications\.py"):
        get_kind("never_heard_of")


def test_two_kinds_of_one_name_are_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="Two kinds"):
        type("Other", (Kind,), {"name": "test_note"})


@pytest.mark.parametrize("name", ["two words", "shop/order", "naïve"])
def test_a_name_that_cannot_be_part_of_a_path_is_refused(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="letters, digits"):
        type("Odd", (Kind,), {"name": name})


def test_a_base_without_a_name_is_no_kind() -> None:
    class Base(Kind):
        channels = ("note",)

    assert Base not in all_kinds().values()


def test_what_a_kind_says_unless_it_says_otherwise() -> None:
    row = Notification(context={"a": 1})
    assert list(Note.prepare([row])) == [{"a": 1}]
    assert (Note.sample(), Note.sender(row), Note.reply_to(row), Note.headers(row)) == (
        {},
        "",
        (),
        {},
    )
