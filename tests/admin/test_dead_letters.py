"""The dead-letter queue: read, retry, delete."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from notifications import jobs
from notifications.models import DeadLetter, Notification, State
from tests.admin.screens import BOB, boss, letter, list_of, page_of, text_of, url
from tests.scripted import Script

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_letter_shows_data_error_attempts_and_times(script: Script) -> None:
    dead = letter(script)
    DeadLetter.objects.update(traceback="Traceback (most recent call last): …")
    content = text_of(boss(), page_of(dead))
    died = timezone.localtime(dead.created_at)
    for words in (
        "550 no such user", "order_id = 7", BOB, "Attempt 1: refused for good by first",
        "Traceback (most", f"{died:%Y-%m-%d %H:%M}", "no other",
    ):  # fmt: skip
        assert words in content


def test_a_letter_leads_to_those_like_it(script: Script) -> None:
    dead = letter(script)
    letter(script, "eve@example.com")
    client = boss()
    content = text_of(client, page_of(dead))
    like = f"{list_of('deadletter')}?fingerprint={dead.fingerprint}"
    assert f'<a href="{like}">1 more</a>' in content
    assert "2 dead letters" in text_of(client, like)


def test_retry_delivers_exactly_one(script: Script) -> None:
    dead = letter(script)
    answer = boss().post(url("deadletter", "retry", dead.pk))
    assert (answer.status_code, answer.headers["Location"]) == (302, list_of("deadletter"))
    jobs.serve("note")
    jobs.serve("note")
    assert Notification.objects.get().state == State.SENT
    assert not DeadLetter.objects.exists()
    assert len(script.sent) == 2
    assert LogEntry.objects.get().change_message == "Retried."


def test_delete_removes_the_entry_never_sends_and_leaves_an_audit_line(script: Script) -> None:
    dead = letter(script)
    client = boss()
    address = url("deadletter", "delete", dead.pk)
    assert f'href="{address}"' in text_of(client, page_of(dead))
    assert "nothing is sent" in text_of(client, address)
    assert DeadLetter.objects.exists()
    answer = client.post(address, {"post": "yes"})
    assert answer.headers["Location"] == list_of("deadletter")
    jobs.serve("note")
    assert not DeadLetter.objects.exists()
    assert Notification.objects.get().state == State.DEAD
    assert len(script.sent) == 1
    assert LogEntry.objects.get().is_deletion()
