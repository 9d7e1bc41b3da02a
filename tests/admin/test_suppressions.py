"""Addresses that are not written to any more, on their screen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.admin.models import LogEntry

from notifications import jobs, suppressions
from notifications.models import Notification, RegisteredTemplate, State, Suppression, Task
from notifications.suppressions import Reason, Unwanted
from tests.admin.screens import BOB, ask, boss, list_of, page_of, staff, text_of, url
from tests.scripted import Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


def bounced() -> Suppression:
    suppressions.add([Unwanted("note", BOB, Reason.BOUNCE, "receipt of scripted")])
    return Suppression.objects.get()


def test_an_address_is_suppressed_by_hand_and_gets_nothing() -> None:
    client = boss()
    answer = client.post(
        url("suppression", "suppress"),
        {"channel": "note", "address": BOB, "note": "asked by phone"},
        follow=True,
    )
    assert "…@e….com gets nothing more." in answer.content.decode()
    row = Suppression.objects.get()
    assert (row.reason, row.source, str(row.by)) == ("person", "asked by phone", "boss")
    assert LogEntry.objects.get().change_message == "Suppressed. asked by phone"
    ask()
    jobs.serve("note")
    assert Notification.objects.get().state == State.SUPPRESSED


def test_a_lifted_address_is_written_to_again() -> None:
    row = bounced()
    boss().post(list_of("suppression"), {"action": "lift_chosen", "_selected_action": [row.pk]})
    assert not Suppression.objects.exists()
    assert LogEntry.objects.get().change_message == "Lifted: hard bounce (receipt of scripted)."
    ask()
    jobs.serve("note")
    assert Notification.objects.get().state == State.SENT


def test_an_address_is_found_by_typing_it_whole() -> None:
    bounced()
    client = staff("view_suppression")
    assert "receipt of scripted" in text_of(client, list_of("suppression"), q=BOB)
    assert "receipt of scripted" not in text_of(client, list_of("suppression"), q="bob@")
    assert BOB not in text_of(client, list_of("suppression"))
    assert BOB not in text_of(client, page_of(Suppression.objects.get()))


@pytest.mark.parametrize("data", [{"channel": "note"}, {"channel": "pigeon", "address": BOB}])
def test_nonsense_is_refused_with_the_reason(data: dict[str, str]) -> None:
    answer = boss().post(url("suppression", "suppress"), data, follow=True)
    assert 'class="error"' in answer.content.decode()
    assert not Suppression.objects.exists()


def test_who_may_only_look_changes_nothing() -> None:
    row = bounced()
    client = staff("view_suppression", "view_registeredtemplate")
    assert "Write to it no more" not in text_of(client, list_of("suppression"))
    assert client.post(url("suppression", "suppress"), {"channel": "note"}).status_code == 403
    data = {"action": "lift_chosen", "_selected_action": [row.pk]}
    assert client.post(list_of("suppression"), data).status_code == 403
    assert client.post(url("registeredtemplate", "copy")).status_code == 403
    assert "Copy now" not in text_of(client, list_of("registeredtemplate"))
    assert boss().get(url("suppression", "suppress")).status_code == 405
    assert Suppression.objects.exists()


def test_templates_are_shown_and_copied_on_demand() -> None:
    row = RegisteredTemplate.objects.create(
        provider="whatsapp_cloud",
        name="hello",
        language="en",
        status="PAUSED",
        components=[
            {"type": "BODY", "text": "Hello <{{1}}>"},
            {"type": "BUTTONS", "buttons": [{"type": "URL", "text": "See it"}]},
        ],
        synchronised_at="2026-03-14T09:26:00Z",
    )
    client = boss()
    assert "paused" in text_of(client, list_of("registeredtemplate"))
    words = text_of(client, page_of(row))
    assert "Hello &lt;{{1}}&gt;" in words
    assert "See it" in words
    answer = client.post(url("registeredtemplate", "copy"), follow=True)
    assert "A worker copies them now." in answer.content.decode()
    assert LogEntry.objects.get().change_message == "Copied the lists of no provider."
    assert not Task.objects.exists()  # the scripted provider has nothing to copy
