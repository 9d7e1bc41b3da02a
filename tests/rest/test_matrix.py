"""Every address and method of the API, and who may use it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.test import Client, override_settings

from notifications import holds, jobs
from notifications.models import Notification, State, Task
from notifications.muting import muted
from notifications.rest.document import describe
from orders.models import User
from tests.admin.screens import ask, letter, staff
from tests.rest.callers import Caller, anybody, bearer, person, superuser
from tests.scripted import Script

pytestmark = pytest.mark.django_db(transaction=True)

VIEWER = ("view_notification", "view_task", "view_deadletter", "view_hold")
OPERATOR = (
    *VIEWER, "view_content", "retry_notification", "cancel_notification", "retry_deadletter",
    "delete_deadletter", "manage_queue", "send_test", "add_notification", "delete_notification",
    "delete_task",
)  # fmt: skip


@dataclass(frozen=True)
class Door:
    """One method of one address."""

    method: str
    path: str  # as in the document
    needs: tuple[str, ...]
    status: int = 200  # for those who may
    body: Any = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


SEE, RETRY, CANCEL = "view_notification", "retry_notification", "cancel_notification"
LETTER, HOLD, MANAGE = "view_deadletter", "view_hold", "manage_queue"
DOORS = [
    Door("get", "dashboard/", (SEE, LETTER)),
    Door("get", "stats/", (SEE,)),
    Door("get", "queues/", (HOLD,)),
    Door("get", "queues/{name}/", (HOLD,)),
    Door("get", "queues/{name}/jobs/?state=failed", (HOLD, SEE, "view_task")),
    Door("post", "queues/{name}/pause/", (MANAGE, HOLD), body={}),
    Door("post", "queues/{name}/resume/", (MANAGE, HOLD)),
    Door("post", "queues/{name}/clean/", (MANAGE, HOLD), 202,
         {"states": ["sent"], "older_than": "3d"}),
    Door("post", "queues/{name}/retry-failed/", ("retry_deadletter", MANAGE), 202, {}),
    Door("post", "queues/{name}/empty/", (MANAGE, HOLD), 202, {"confirm": "note"}),
    Door("get", "workers/", (HOLD,)),
    Door("get", "events/", ("view_task",)),
    Door("get", "notifications/", (SEE,)),
    Door("post", "notifications/", ("add_notification", SEE), 201,
         {"kind": "test_note", "to": "eve@example.com"}),
    Door("get", "notifications/{sent}/", (SEE,)),
    Door("delete", "notifications/{sent}/", ("delete_notification", SEE), 204),
    Door("get", "notifications/{sent}/timeline/", (SEE,)),
    Door("get", "notifications/{sent}/preview/", (SEE, "view_content")),
    Door("post", "notifications/{dead_row}/retry/", (RETRY, SEE), 202),
    Door("post", "notifications/{waiting}/cancel/", (CANCEL, SEE), 202),
    Door("post", "notifications/{sent}/resend/", (RETRY, SEE), 201),
    Door("post", "test-message/", ("send_test",), 202,
         {"channel": "note", "kind": "test_note"}),
    Door("get", "tasks/", ("view_task",)),
    Door("get", "tasks/{task}/", ("view_task",)),
    Door("delete", "tasks/{task}/", ("delete_task", "view_task"), 204),
    Door("post", "tasks/{task}/retry/", (RETRY, "view_task"), 202),
    Door("post", "tasks/{due}/cancel/", (CANCEL, "view_task"), 202),
    Door("get", "dead-letters/", (LETTER,)),
    Door("get", "dead-letters/groups/", (LETTER,)),
    Door("post", "dead-letters/retry/", ("retry_deadletter", LETTER), 202, {"filter": {}}),
    Door("post", "dead-letters/discard/", ("delete_deadletter", LETTER), 202, {"filter": {}}),
    Door("get", "dead-letters/{dead}/", (LETTER,)),
    Door("delete", "dead-letters/{dead}/", ("delete_deadletter", LETTER), 204),
    Door("post", "dead-letters/{dead}/retry/", ("retry_deadletter", LETTER), 202),
    Door("get", "schema/", ()),
]  # fmt: skip
CHANGES = [door for door in DOORS if door.method != "get"]
OPEN = {"get /health/", "get /health/live/", "get /health/ready/"}

World = dict[str, Any]


@pytest.fixture(autouse=True)
def queues(script: Script, redis: Any) -> Iterator[None]:
    names = ("default", "note", "host")
    with override_settings(RQ_QUEUES={name: {"URL": os.environ["REDIS_URL"]} for name in names}):
        yield


@pytest.fixture
def world(script: Script, queues: None) -> World:
    dead = letter(script)
    sent, waiting = ask("sent@example.com"), ask("waiting@example.com")
    Notification.objects.filter(pk=sent.pk).update(state=State.SENT)
    task = Task.objects.create(name="shop.stock.load", queue="default", state=State.DEAD)
    due = Task.objects.create(name="shop.stock.load", queue="default")
    return {
        "name": "note", "sent": sent.pk, "waiting": waiting.pk, "dead": dead.pk,
        "dead_row": dead.work.pk, "task": task.pk, "due": due.pk,
    }  # fmt: skip


def knock(caller: Caller, door: Door, world: World, status: int) -> Any:
    return caller(door.method, door.path.format(**world), door.body, status=status)


def test_the_table_is_whole() -> None:
    """Every method of the document is in it."""
    known = {
        f"{method} {path}"
        for path, methods in describe()["paths"].items()
        for method in methods
    }  # fmt: skip
    names = ("sent", "waiting", "dead_row", "dead", "task", "due")
    here = set()
    for door in DOORS:
        path = door.path.partition("?")[0]
        for name in names:
            path = path.replace(f"{{{name}}}", "{id}")
        here.add(f"{door.method} /{path}")
    assert here - {"get /schema/"} == known - OPEN


def test_strangers_learn_nothing(world: World) -> None:
    for door in DOORS:
        problem = knock(anybody(), door, world, 401)
        assert problem["title"] == "Unauthorized"
    assert anybody()("get", "nothing/here/", status=401)["status"] == 401
    assert not LogEntry.objects.exists()


def test_customers_are_refused(world: World) -> None:
    with muted():
        user = User.objects.create_user("carl")
    for door in DOORS:
        knock(bearer(user), door, world, 403)


@pytest.mark.parametrize("rights", [(), VIEWER, OPERATOR], ids=["staff", "viewer", "operator"])
def test_staff_get_what_they_have_the_right_to(world: World, rights: tuple[str, ...]) -> None:
    caller = person(*rights)
    for door in DOORS:
        if not set(door.needs) <= set(rights):
            knock(caller, door, world, 403)
            if door.method == "get":
                assert caller.client.head(f"/api/{door.path.format(**world)}").status_code == 403
        elif door.method == "get":
            knock(caller, door, world, door.status)
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("door", CHANGES, ids=str)
def test_operators_change_what_they_may_and_it_is_written_down(world: World, door: Door) -> None:
    holds.hold("backlog", "note", reason="old")  # to resume from
    knock(person(*OPERATOR), door, world, door.status)
    assert LogEntry.objects.exists()


@pytest.mark.parametrize("door", DOORS, ids=str)
def test_each_right_is_needed(world: World, door: Door) -> None:
    for missing in door.needs:
        with transaction.atomic():
            caller = person(*(right for right in OPERATOR if right != missing))
            knock(caller, door, world, 403)
            transaction.set_rollback(True)


def test_superusers_see_everything(world: World) -> None:
    caller = superuser()
    for door in DOORS:
        if door.method == "get":
            knock(caller, door, world, door.status)


def test_a_session_needs_the_csrf_token_and_a_bearer_does_not(world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    with muted():
        user = User.objects.create_superuser("boss")
    client.force_login(user)
    for door in CHANGES:
        problem = knock(Caller(client), door, world, 403)
        assert "CSRF" in problem["detail"]
    assert not LogEntry.objects.exists()
    knock(bearer(user), CHANGES[0], world, 200)


def test_a_refusal_says_the_same_of_rows_that_are_and_of_rows_that_are_not(world: World) -> None:
    caller = Caller(staff())
    nowhere = {**dict.fromkeys(world, 987654), "name": "nowhere"}
    for door in DOORS:
        if door.needs:
            assert knock(caller, door, world, 403) == knock(caller, door, nowhere, 403)


def test_what_is_served_was_not_changed_by_looking(world: World) -> None:
    caller = superuser()
    for door in CHANGES:
        caller.client.get(f"/api/{door.path.format(**world)}")
    assert not LogEntry.objects.exists()
    jobs.serve("note")
    assert Notification.objects.get(pk=world["waiting"]).state == State.SENT
