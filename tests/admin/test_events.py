"""The screens of events and of the audit log."""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.db.models.functions import Now
from django.utils import timezone

from notifications import operations
from notifications.admin import deeds
from notifications.models import DeadLetter, Notification, State, Tally, Task
from notifications.muting import muted
from orders.models import User
from tests.admin.screens import ask, boss, letter, list_of, page_of, staff, text_of
from tests.scripted import Script

pytestmark = pytest.mark.django_db(transaction=True)


def test_each_topic_tells_who_hears_it_and_how_they_fare() -> None:
    event = uuid4()
    common = {"name": "x", "queue": "default", "topic": "order.placed", "event_id": event}
    for fields in (
        {},
        {"token": uuid4(), "due_at": Now() + timedelta(seconds=9)},
        {"attempts": 1, "due_at": Now() + timedelta(seconds=8)},
    ):
        Task.objects.create(**common, **fields)
    dead = Task.objects.create(**common, state=State.DEAD)
    DeadLetter.objects.create(task=dead, topic="order.placed", queue="default", attempts=1)
    for what, number in (("done", 5), ("dead", 6)):
        Tally.objects.create(
            queue="default", topic="order.placed", what=what, count=number, since=timezone.now()
        )
    Task.objects.create(name="x", queue="default", topic="old.topic", event_id=uuid4())
    content = text_of(boss(), list_of("event"))
    rows = {
        re.findall(r">([\w.]+)</a>", row)[0]: row
        for row in content.split("<tr>")
        if "?topic=" in row
    }
    assert re.findall(r'class="ntf-number">(?:<a [^>]+>)?(\d+)', rows["order.placed"]) == list(
        "1111561"
    )
    assert "confirm_order" in rows["order.placed"]
    assert "nobody" in rows["old.topic"]
    assert re.findall(r'class="ntf-number">(\d+)', rows["payment.received"]) == list("0000000")


def test_the_audit_log_tells_who_did_what_to_what(script: Script) -> None:
    dead, row = letter(script), ask()
    with muted():
        ann = User.objects.create_user("ann")
    operations.cancel(row, by=ann)
    operations.empty("note", by=ann)
    operations.discard(dead, by=ann)
    client = boss()
    content = text_of(client, list_of("deed"))
    assert content.count("<tr><td>") == 3
    assert f'<a href="{page_of(row)}">' in content
    for words in ("ann", "Cancelled.", "Emptied note: 0 rows cancelled.", "Discarded"):
        assert words in content
    assert page_of(row) in text_of(client, list_of("deed"), q=f"#{row.pk}")
    assert text_of(client, list_of("deed"), q="ann").count("<tr><td>") == 3
    assert "Nobody did anything." in text_of(client, list_of("deed"), q="eve")
    assert Notification.objects.filter(state=State.CANCELLED).count() == 1


def test_lines_of_other_apps_and_of_rows_without_a_page_have_no_link() -> None:
    with muted():
        ann = User.objects.create_user("ann")
    LogEntry.objects.log_actions(ann.pk, User.objects.all(), 2, change_message="Not ours.")
    operations.adopt(by=ann)
    content = text_of(boss(), list_of("deed"))
    assert "Not ours." not in content
    assert "Adopted from" in content
    assert "/stamp/" not in content


def test_the_log_goes_back_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deeds, "SHOWN", 2)
    with muted():
        ann = User.objects.create_user("ann")
    for _each in range(3):
        operations.empty("note", by=ann)
    client = boss()
    content = text_of(client, f"{list_of('deed')}?q=ann")
    assert content.count("<tr><td>") == 2
    [older] = re.findall(r'<a href="(\?before=\d+&amp;q=ann)">Older</a>', content)
    content = text_of(client, list_of("deed") + older.replace("&amp;", "&"))
    assert content.count("<tr><td>") == 1
    assert "Older" not in content


def test_the_log_needs_the_right_to_read_it() -> None:
    assert staff("view_notification").get(list_of("deed")).status_code == 403
