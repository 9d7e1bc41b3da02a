"""Every screen and every action, and who may have it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core import signing
from django.test import Client

from notifications import bulk, holds
from notifications.admin.dead_letters import SALT
from notifications.bulk import Verb
from notifications.models import DeadLetter, Notification, State, Task
from notifications.muting import muted
from orders.models import User
from tests.admin.screens import ask, boss, letter, list_of, page_of, staff, url
from tests.scripted import Script

pytestmark = pytest.mark.django_db(transaction=True)

VIEWER = ("view_notification", "view_task", "view_deadletter", "view_hold")
OPERATOR = (
    *VIEWER, "view_content", "retry_notification", "cancel_notification", "retry_deadletter",
    "delete_deadletter", "manage_queue", "send_test",
    "admin.view_logentry",
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """Rows to look at and to do something to."""

    sent: Notification
    waiting: Notification
    dead: DeadLetter
    task: Task


Data = Callable[[World], Mapping[str, Any]]


@dataclass(frozen=True)
class Door:
    """One screen, or one thing to do."""

    name: str
    address: Callable[[World], str]
    permission: str
    post: Data | None = None  # what is sent, of a change or a question


def data(**values: Any) -> Data:
    return lambda world: values


def action(model: str, name: str, permission: str, row: str) -> Door:
    return Door(
        f"{model}: {name}",
        lambda world: list_of(model),
        permission,
        lambda world: {"action": name, "_selected_action": [getattr(world, row).pk]},
    )


def one(model: str, verb: str, permission: str, row: str, **values: str) -> Door:
    return Door(
        f"{model}: {verb} one",
        lambda world: url(model, verb, getattr(world, row).pk),
        permission,
        data(**values),
    )


def many(verb: Verb, permission: str) -> Door:
    def asked(world: World) -> Mapping[str, Any]:
        return {
            "asked": signing.dumps([verb, asdict(bulk.freeze_letters())], salt=SALT, compress=True)
        }

    return Door(f"{verb} many", lambda world: url("deadletter", "many"), permission, asked)


def to_queue(verb: str, **values: Any) -> Door:
    return Door(
        f"{verb} a queue", lambda world: url("queue", verb, "note"), "manage_queue", data(**values)
    )


def ask_many(verb: str, permission: str) -> Door:
    return Door(f"{verb} many?", lambda world: f"{url('deadletter', 'many')}?verb={verb}",
                permission)  # fmt: skip


SCREENS = [
    Door("notifications", lambda world: list_of("notification"), "view_notification"),
    Door("a notification", lambda world: page_of(world.sent), "view_notification"),
    Door("preview", lambda world: url("notification", "preview", world.sent.pk), "view_content"),
    Door("resend?", lambda world: url("notification", "resend", world.sent.pk),
         "retry_notification"),
    Door("tasks", lambda world: list_of("task"), "view_task"),
    Door("a task", lambda world: page_of(world.task), "view_task"),
    Door("dead letters", lambda world: list_of("deadletter"), "view_deadletter"),
    Door("a dead letter", lambda world: page_of(world.dead), "view_deadletter"),
    Door("holds", lambda world: list_of("hold"), "view_hold"),
    Door("overview", lambda world: list_of("overview"), "view_notification"),
    Door("templates", lambda world: list_of("message"), "view_notification"),
    Door("a template", lambda world: url("message", "one", "test_note", "note"),
         "view_notification"),
    Door("its picture", lambda world: url("message", "picture", "test_note", "note"),
         "view_notification"),
    Door("events", lambda world: list_of("event"), "view_task"),
    Door("audit log", lambda world: list_of("deed"), "admin.view_logentry"),
    Door("queues", lambda world: list_of("queue"), "view_hold"),
    Door("a queue", lambda world: url("queue", "one", "note"), "view_hold"),
    Door("workers", lambda world: list_of("worker"), "view_hold"),
    Door("groups", lambda world: url("deadletter", "groups"), "view_deadletter"),
    ask_many("retry", "retry_deadletter"),
    ask_many("discard", "delete_deadletter"),
    action("deadletter", "retry_chosen", "retry_deadletter", "dead"),
    action("deadletter", "discard_chosen", "delete_deadletter", "dead"),
]  # fmt: skip
CHANGES = [
    one("notification", "retry", "retry_notification", "dead_row"),
    one("notification", "cancel", "cancel_notification", "waiting"),
    one("notification", "resend", "retry_notification", "sent"),
    one("task", "retry", "retry_notification", "task"),
    one("deadletter", "retry", "retry_deadletter", "dead"),
    one("deadletter", "delete", "delete_deadletter", "dead", post="yes"),
    action("notification", "retry_chosen", "retry_notification", "dead_row"),
    action("notification", "cancel_chosen", "cancel_notification", "waiting"),
    action("task", "retry_chosen", "retry_notification", "task"),
    many(Verb.RETRY, "retry_deadletter"),
    many(Verb.DISCARD, "delete_deadletter"),
    Door("pause", lambda world: url("hold", "pause"), "manage_queue", data(queue="note")),
    Door(
        "send a test",
        lambda world: url("message", "test", "test_note", "note"),
        "send_test",
        data(language="en"),
    ),
    to_queue("pause"),
    to_queue("resume"),
    to_queue("clean", states=["sent"], days="3"),
    to_queue("empty", name="note"),
]
EVERYTHING = [*SCREENS, *CHANGES]


@pytest.fixture
def world(script: Script) -> World:
    dead = letter(script)
    holds.hold("backlog", "note", reason="old")
    sent, waiting = ask("sent@example.com"), ask("waiting@example.com")
    Notification.objects.filter(pk=sent.pk).update(state=State.SENT)
    task = Task.objects.create(name="shop.stock.load", queue="default", state=State.DEAD)
    return Rows(sent=sent, waiting=waiting, dead=dead, task=task)


class Rows(World):
    """The same, and the row of the dead letter."""

    @property
    def dead_row(self) -> Any:
        return self.dead.work


def knock(client: Client, door: Door, world: World) -> Any:
    if door.post is None:
        return client.get(door.address(world))
    return client.post(door.address(world), door.post(world))


def named(door: Door) -> str:
    return door.name


def test_strangers_are_sent_to_the_login(world: World) -> None:
    for door in EVERYTHING:
        answer = knock(Client(), door, world)
        assert answer.status_code == 302, door.name
        assert answer.headers["Location"].startswith("/admin/login/"), door.name
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("rights", [(), VIEWER, OPERATOR], ids=["staff", "viewer", "operator"])
def test_staff_see_what_they_have_the_right_to_and_are_refused_the_rest(
    world: World, rights: tuple[str, ...]
) -> None:
    client = staff(*rights)
    for door in EVERYTHING:
        if door.permission not in rights:
            assert knock(client, door, world).status_code == 403, door.name
        elif door in SCREENS:
            assert knock(client, door, world).status_code == 200, door.name
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("door", CHANGES, ids=named)
def test_operators_change_what_they_have_the_right_to_and_it_is_written_down(
    world: World, door: Door
) -> None:
    assert knock(staff(*OPERATOR), door, world).status_code in (200, 302)
    assert LogEntry.objects.exists()


def test_superusers_see_everything(world: World) -> None:
    client = boss()
    for door in SCREENS:
        assert knock(client, door, world).status_code == 200, door.name


def test_a_change_without_the_csrf_token_is_refused(world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    with muted():
        client.force_login(User.objects.create_superuser("boss"))
    for door in CHANGES:
        assert knock(client, door, world).status_code == 403, door.name
    assert not LogEntry.objects.exists()


def test_looking_at_the_address_of_a_change_changes_nothing(world: World) -> None:
    client = boss()
    for door in CHANGES:
        client.get(door.address(world))
    assert not LogEntry.objects.exists()
    assert DeadLetter.objects.count() == 1


def test_a_refusal_says_the_same_of_rows_that_are_and_of_rows_that_are_not(world: World) -> None:
    client = staff()
    there = [knock(client, door, world) for door in EVERYTHING]
    for row in (world.sent, world.waiting, world.dead, world.task, world.dead.work):
        row.pk = 987654
    gone = [knock(client, door, world) for door in EVERYTHING]
    for before, after, door in zip(there, gone, EVERYTHING, strict=True):
        assert (after.status_code, after.content) == (before.status_code, before.content), door.name
