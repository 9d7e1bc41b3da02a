"""Published facts become one task for each handler."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import transaction

from notifications import events, jobs, tasks
from notifications.dispatch import notify
from notifications.errors import InvalidPayload
from notifications.events import on, publish
from notifications.models import DeadLetter, Notification, State, Task
from notifications.muting import muted
from tests.scripted import Note, Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)

FAILING: set[str] = set()


@on("test.ordered", name="test.confirm")
def confirm(order_id: int) -> None:
    notify(Note, to=f"buyer{order_id}@example.com", context={"order_id": order_id})
    if "confirm" in FAILING:
        raise RuntimeError("after the message was asked for")


@on("test.ordered", name="test.count")
def count(order_id: int) -> int:
    if "count" in FAILING:
        raise RuntimeError("cannot count")
    return order_id


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    FAILING.clear()
    jobs.set_queues(["default", "note"])
    with scripted() as running:
        yield running
    jobs.set_queues([])


def order(number: int = 7) -> None:
    with transaction.atomic():
        publish("test.ordered", order_id=number)


def test_each_handler_gets_a_task_of_the_same_event() -> None:
    order()
    rows = list(Task.objects.order_by("name"))
    assert [row.name for row in rows] == ["test.confirm", "test.count"]
    assert len({row.event_id for row in rows}) == 1
    assert {row.topic for row in rows} == {"test.ordered"}
    assert rows[0].payload == {"order_id": 7}


def test_one_ring_leads_from_the_event_to_the_message(script: Script) -> None:
    order()
    jobs.serve("default")
    assert Notification.objects.get().state == State.SENT
    assert len(script.sent) == 1
    assert set(Task.objects.values_list("state", flat=True)) == {State.DONE}
    assert Task.objects.get(name="test.count").result == 7


def test_a_handler_that_fails_takes_back_what_it_asked_for_and_goes_again(script: Script) -> None:
    FAILING.add("confirm")
    order()
    tasks.run_due("default")
    tasks.run_due("default")
    assert not Notification.objects.exists()
    FAILING.clear()
    jobs.serve("default")
    assert Notification.objects.count() == 1
    assert len(script.sent) == 1


def test_one_failing_handler_does_not_hold_up_the_others() -> None:
    FAILING.add("count")
    order()
    jobs.serve("default")
    jobs.serve("default")
    assert Notification.objects.get().state == State.SENT
    letter = DeadLetter.objects.get()
    assert (letter.name, letter.error, letter.attempts) == ("test.count", "RuntimeError", 4)
    assert "cannot count" in letter.traceback


def test_rolled_back_means_never_happened() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
        publish("test.ordered", order_id=7)
        1 / 0  # noqa: B018
    assert not Task.objects.exists()


def test_a_topic_without_handlers_leaves_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "notifications.events")
    publish("test.nobody_listens", x=1)
    assert "nobody is subscribed to test.nobody_listens" in caplog.text


def test_a_payload_of_objects_is_refused() -> None:
    with pytest.raises(InvalidPayload, match=r"payload of test\.ordered"):
        publish("test.ordered", order_id=object())


def test_muted_means_nobody_hears() -> None:
    with muted():
        order()
    assert not Task.objects.exists()


def test_topics_and_their_handlers_can_be_listed() -> None:
    assert [each.name for each in events.topics()["test.ordered"]] == ["test.confirm", "test.count"]
