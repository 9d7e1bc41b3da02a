"""Pauses: made, shown and lifted."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from notifications import holds
from notifications.models import Hold
from orders.models import User
from tests.admin.screens import boss, list_of, staff, text_of, url

pytestmark = pytest.mark.django_db(transaction=True)


def test_holds_are_lifted_by_who_may() -> None:
    holds.hold("queue", "note", reason="r")
    held = Hold.objects.get()
    data = {"action": "lift_chosen", "_selected_action": [held.pk]}
    boss().post(list_of("hold"), data)
    held.refresh_from_db()
    assert held.lifted_at is not None
    assert LogEntry.objects.count() == 1


def test_a_queue_is_paused_for_a_while_with_a_reason() -> None:
    client = boss()
    content = text_of(client, list_of("hold"))
    assert '<option value="note">' in content
    assert '<option value="host">' not in content  # the host's own: its jobs are not ours to hold
    data = {"queue": "note", "minutes": "90", "reason": "the printer burns"}
    answer = client.post(url("hold", "pause"), data, follow=True)
    assert "The queue note is paused." in answer.content.decode()
    held = Hold.objects.get()
    assert (held.reason, held.by, held.cause) == ("the printer burns", User.objects.get(), "person")
    assert timedelta(minutes=89) < held.until - timezone.now() <= timedelta(minutes=90)
    assert LogEntry.objects.get().change_message == "Paused note. the printer burns"
    content = text_of(client, list_of("hold"))
    assert "the printer burns · ends in 1\xa0hour" in content


@pytest.mark.parametrize(
    "data", [{"queue": "host"}, {"queue": ""}, {"queue": "note", "minutes": "0"}]
)
def test_a_pause_that_makes_no_sense_is_refused_with_the_reason(data: dict[str, str]) -> None:
    answer = boss().post(url("hold", "pause"), data, follow=True)
    assert 'class="error"' in answer.content.decode()
    assert not Hold.objects.exists()


def test_who_may_only_look_at_holds_cannot_pause() -> None:
    client = staff("view_hold")
    assert "<option" not in text_of(client, list_of("hold"))
    assert client.post(url("hold", "pause"), {"queue": "note"}).status_code == 403
    assert not Hold.objects.exists()
    assert boss().get(url("hold", "pause")).status_code == 405


def test_holds_say_how_they_stand_open_ones_first() -> None:
    for name in ("lifted", "over", "open"):
        holds.hold("queue", name, reason=f"r-{name}")
    holds.lift("queue", "lifted")
    Hold.objects.filter(name="over").update(until=timezone.now() - timedelta(minutes=1))
    client = boss()
    content = text_of(client, list_of("hold"))
    words = re.findall(r'<span class="ntf-chip [^"]+">(\w+)</span>', content)
    assert words == ["held", "over", "lifted"]
    assert "2 holds" in text_of(client, list_of("hold"), open="1")
    assert "1 hold" in text_of(client, list_of("hold"), open="0")
