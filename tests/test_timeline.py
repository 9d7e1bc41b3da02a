"""What happened to a row, as the admin and the API tell it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from notifications import jobs, timeline
from notifications.models import Attempt, Notification, Receipt, Task
from tests.admin.screens import ask, letter, page_of, staff, text_of
from tests.rest.callers import Caller
from tests.scripted import Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)

WAMID = "wamid.HBgLMTIwMjU1NTAxMjMVAgARGBI1"  # +1 202 555 0123, in base64


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


def sent() -> Notification:
    row = ask()
    jobs.serve("note")
    row.refresh_from_db()
    Attempt.objects.update(message_id=WAMID)
    Receipt.objects.create(
        provider="first", key="1", fate="delivered", message_id=WAMID, notification=row
    )
    return row


def told(client: Client, row: Notification) -> list[str]:
    """Its page in the admin, and what the API answers about it."""
    caller = Caller(client)
    paths = (f"notifications/{row.pk}/", f"notifications/{row.pk}/timeline/")
    return [text_of(client, page_of(row)), *(str(caller("get", path)) for path in paths)]


def test_ids_that_may_hold_an_address_are_masked_as_addresses_are(script: Script) -> None:
    for answer in told(staff("view_notification"), sent()):
        assert "wam…I1" in answer
        assert WAMID[:12] not in answer


def test_who_may_see_addresses_sees_the_ids(script: Script) -> None:
    for answer in told(staff("view_notification", "view_content"), sent()):
        assert WAMID in answer


def test_an_id_that_is_not_there_is_not_masked(script: Script) -> None:
    row = ask()
    jobs.serve("note")
    assert [line.message_id for line in timeline.attempts(row, revealed=False)] == [""]


def test_the_end_comes_after_the_attempt_that_led_to_it(script: Script) -> None:
    row = letter(script).work
    told = timeline.timeline(row, revealed=True)
    assert [line.what for line in told] == ["ended", "attempt", "asked"]
    assert told[0].outcome == "dead"


def test_a_task_has_no_receipts_and_a_waiting_one_no_end(script: Script) -> None:
    row = Task.objects.create(name="x", queue="default", due_at=timezone.now() + timedelta(hours=1))
    row.refresh_from_db()
    assert [line.what for line in timeline.timeline(row, revealed=True)] == ["asked"]
