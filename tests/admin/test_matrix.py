"""Every page and every action of the admin, and who may have it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.core import signing
from django.db import transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import URLPattern
from django.utils import timezone

from notifications import bulk, holds, operations
from notifications.admin.dead_letters import SALT
from notifications.bulk import Verb
from notifications.models import (
    ApiToken,
    DeadLetter,
    Hold,
    Notification,
    RegisteredTemplate,
    State,
    Task,
)
from notifications.muting import muted
from notifications.tokens import make_token
from orders.models import User
from tests.admin.screens import BOB, ask, boss, grant, letter, list_of, log_in, url
from tests.scripted import Script

pytestmark = pytest.mark.django_db(transaction=True)

SEE, CONTENT = "view_notification", "view_content"
RETRY, CANCEL = "retry_notification", "cancel_notification"
TASK, HOLD, MANAGE = "view_task", "view_hold", "manage_queue"
LETTER, AGAIN, DISCARD = "view_deadletter", "retry_deadletter", "delete_deadletter"
UNWANTED, STEER = "view_suppression", "manage_suppression"
TEMPLATE, LOG = "view_registeredtemplate", "admin.view_logentry"
TOKEN, MAKE, REVOKE = "view_apitoken", "add_apitoken", "delete_apitoken"
NOBODY = ("nobody",)

VIEWER = (SEE, TASK, HOLD, LETTER, UNWANTED, TEMPLATE, TOKEN)
OPERATOR = (
    *VIEWER, CONTENT, RETRY, CANCEL, AGAIN, DISCARD, MANAGE, "send_test", STEER, LOG, MAKE, REVOKE,
)  # fmt: skip

World = dict[str, int]  # the primary keys of rows to look at and to do something to


@dataclass(frozen=True)
class Door:
    """A page, or something to do there."""

    model: str
    page: str  # as in the names of the admin's addresses; or an action of the list
    needs: tuple[str, ...]  # rights, all of them
    row: str = ""  # in the world, if the address names one
    args: tuple[str, ...] = ()
    query: str = ""
    data: dict[str, Any] | None = None  # what is sent; None: a GET
    action: bool = False
    changes: bool = False

    def __str__(self) -> str:
        return f"{'get' if self.data is None else 'post'} {self.model} {self.page}{self.query}"

    def address(self, world: World) -> str:
        if self.action:
            return list_of(self.model)
        args = (world[self.row],) if self.row else self.args
        return url(self.model, self.page, *args) + self.query

    def sent(self, world: World) -> dict[str, Any]:
        if self.action:
            return {"action": self.page, "_selected_action": [world[self.row]]}
        if self.page == "many" and self.data:
            asked = [self.data["verb"], asdict(bulk.freeze_letters())]
            return {"asked": signing.dumps(asked, salt=SALT, compress=True)}
        return self.data or {}


def look(model: str, page: str, *needs: str, row: str = "", query: str = "") -> Door:
    return Door(model, page, needs, row=row, query=query)


def do(
    model: str, page: str, *needs: str, row: str = "", args: tuple[str, ...] = (), **data: Any
) -> Door:
    return Door(model, page, needs, row=row, args=args, data=data, changes=True)


def action(model: str, name: str, *needs: str, row: str, changes: bool = True) -> Door:
    return Door(model, name, needs, row=row, data={}, action=True, changes=changes)


def rows(model: str, right: str, row: str) -> list[Door]:
    """The list, a row's page and its history."""
    one = [look(model, page, right, row=row) for page in ("change", "history")]
    return [look(model, "changelist", right), *one]


def shut(model: str, row: str, *pages: str) -> list[Door]:
    """What Django's admin could do to a row, and nobody may here."""
    doors = []
    for page in pages:
        at = "" if page == "add" else row
        doors.append(Door(model, page, NOBODY, row=at, data={"post": "yes"}))
        if page != "change":
            doors.append(Door(model, page, NOBODY, row=at))
    return doors


KIND = ("test_note", "note")
QUEUE = ("note",)
EDIT = ("add", "change", "delete")
DOORS = [
    *rows("notification", SEE, "sent"),
    *shut("notification", "sent", *EDIT),
    look("notification", "preview", SEE, CONTENT, row="sent"),
    look("notification", "resend", RETRY, row="sent"),
    do("notification", "resend", RETRY, row="sent"),
    do("notification", "retry", RETRY, row="dead_row"),
    do("notification", "cancel", CANCEL, row="waiting"),
    action("notification", "retry_chosen", SEE, RETRY, row="dead_row"),
    action("notification", "cancel_chosen", SEE, CANCEL, row="waiting"),
    *rows("task", TASK, "task"),
    *shut("task", "task", *EDIT),
    do("task", "retry", RETRY, row="task"),
    do("task", "cancel", CANCEL, row="due"),
    action("task", "retry_chosen", TASK, RETRY, row="task"),
    action("task", "cancel_chosen", TASK, CANCEL, row="due"),
    *rows("deadletter", LETTER, "dead"),
    *shut("deadletter", "dead", "add", "change"),
    look("deadletter", "groups", LETTER),
    look("deadletter", "many", AGAIN, query="?verb=retry"),
    look("deadletter", "many", DISCARD, query="?verb=discard"),
    do("deadletter", "many", AGAIN, verb=Verb.RETRY),
    do("deadletter", "many", DISCARD, verb=Verb.DISCARD),
    do("deadletter", "retry", AGAIN, row="dead"),
    look("deadletter", "delete", DISCARD, row="dead"),
    do("deadletter", "delete", DISCARD, row="dead", post="yes"),
    action("deadletter", "retry_chosen", LETTER, AGAIN, row="dead", changes=False),  # asks
    action("deadletter", "discard_chosen", LETTER, DISCARD, row="dead", changes=False),
    *rows("hold", HOLD, "hold"),
    *shut("hold", "hold", *EDIT),
    do("hold", "pause", MANAGE, queue="note"),
    action("hold", "lift_chosen", HOLD, MANAGE, row="hold"),
    *rows("suppression", UNWANTED, "suppression"),
    *shut("suppression", "suppression", *EDIT),
    do("suppression", "suppress", STEER, channel="note", address="eve@example.com"),
    action("suppression", "lift_chosen", UNWANTED, STEER, row="suppression"),
    *rows("registeredtemplate", TEMPLATE, "template"),
    *shut("registeredtemplate", "template", *EDIT),
    do("registeredtemplate", "copy", MANAGE),
    *rows("apitoken", TOKEN, "token"),
    *shut("apitoken", "token", "change"),
    look("apitoken", "add", MAKE),
    do("apitoken", "add", MAKE, name="deploy", days="3"),
    look("apitoken", "delete", REVOKE, row="token"),
    do("apitoken", "delete", REVOKE, row="token", post="yes"),
    look("overview", "changelist", SEE),
    look("message", "changelist", SEE),
    Door("message", "one", (SEE,), args=KIND),
    Door("message", "picture", (SEE,), args=KIND),
    do("message", "test", "send_test", args=KIND, language="en"),
    look("event", "changelist", TASK),
    look("deed", "changelist", LOG),
    look("worker", "changelist", HOLD),
    look("queue", "changelist", HOLD),
    Door("queue", "one", (HOLD,), args=QUEUE),
    do("queue", "pause", MANAGE, args=QUEUE),
    do("queue", "resume", MANAGE, args=QUEUE),
    do("queue", "clean", MANAGE, args=QUEUE, states=["sent"], days="3"),
    do("queue", "empty", MANAGE, args=QUEUE, name="note"),
]
CHANGES = [door for door in DOORS if door.changes]
OPEN = [door for door in DOORS if door.needs != NOBODY]


@pytest.fixture
def world(script: Script) -> World:
    with muted():
        user = User.objects.create_user("staff", "staff@example.com", is_staff=True)
    dead = letter(script)
    holds.hold("backlog", "note", reason="old")
    sent, waiting = ask("sent@example.com"), ask("waiting@example.com")
    Notification.objects.filter(pk=sent.pk).update(state=State.SENT)
    task = Task.objects.create(name="shop.stock.load", queue="default", state=State.DEAD)
    due = Task.objects.create(name="shop.stock.load", queue="default")
    template = RegisteredTemplate.objects.create(
        provider="w", name="hello", language="en", status="APPROVED", components=[],
        synchronised_at=timezone.now(),
    )  # fmt: skip
    return {
        "sent": sent.pk, "waiting": waiting.pk, "dead": dead.pk, "dead_row": dead.work.pk,
        "task": task.pk, "due": due.pk, "hold": Hold.objects.get().pk, "template": template.pk,
        "suppression": operations.suppress("note", "gone@example.com").pk,
        "token": make_token(user, name="mine")[0].pk,
    }  # fmt: skip


def visitor(*rights: str) -> Client:
    """A member of staff with these rights, to whom the token of the world belongs."""
    user = User.objects.get(username="staff")
    user.user_permissions.clear()
    grant(user, *rights)
    return log_in(user)


def knock(client: Client, door: Door, world: World) -> HttpResponse:
    if door.data is None:
        return client.get(door.address(world))
    return client.post(door.address(world), door.sent(world))


def test_the_table_is_whole(rf: RequestFactory) -> None:
    """Every address and every action of the app's part of the admin is in it."""
    request = rf.get("/")
    request.user = User(is_superuser=True, is_active=True)
    known, acts = set(), set()
    for model, owner in admin.site._registry.items():
        if model._meta.app_label == "notifications":
            name = model._meta.model_name
            known |= {each.name for each in owner.get_urls() if isinstance(each, URLPattern)}
            acts |= {(name, each) for each in owner.get_actions(request)}
    known.discard(None)  # Django's own way from old addresses to those of today
    pages = {f"notifications_{door.model}_{door.page}" for door in DOORS if not door.action}
    assert pages == known
    assert {(door.model, door.page) for door in DOORS if door.action} == acts


def test_strangers_are_sent_to_the_login(world: World) -> None:
    for door in DOORS:
        answer = knock(Client(), door, world)
        assert answer.status_code == 302, door
        assert answer.headers["Location"].startswith("/admin/login/"), door
    assert not LogEntry.objects.exists()


def test_customers_are_sent_to_the_login(world: World) -> None:
    client = visitor(*OPERATOR)
    User.objects.update(is_staff=False)
    for door in DOORS:
        answer = knock(client, door, world)
        assert answer.headers["Location"].startswith("/admin/login/"), door
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("rights", [(), VIEWER, OPERATOR], ids=["staff", "viewer", "operator"])
def test_staff_see_what_they_have_the_right_to_and_are_refused_the_rest(
    world: World, rights: tuple[str, ...]
) -> None:
    client = visitor(*rights)
    for door in DOORS:
        if not set(door.needs) <= set(rights):
            assert knock(client, door, world).status_code == 403, door
        elif not door.changes:
            assert knock(client, door, world).status_code == 200, door
    assert not LogEntry.objects.exists()


def test_each_right_is_needed(world: World) -> None:
    for door in OPEN:
        for missing in door.needs:
            with transaction.atomic():
                client = visitor(*(right for right in OPERATOR if right != missing))
                assert knock(client, door, world).status_code == 403, (door, missing)
                transaction.set_rollback(True)


@pytest.mark.parametrize("door", CHANGES, ids=str)
def test_operators_change_what_they_have_the_right_to_and_it_is_written_down(
    world: World, door: Door
) -> None:
    assert knock(visitor(*OPERATOR), door, world).status_code in (200, 302)
    assert LogEntry.objects.exists()


def test_superusers_see_everything_and_edit_nothing(world: World) -> None:
    client = boss()
    for door in DOORS:
        if door.needs == NOBODY:
            assert knock(client, door, world).status_code == 403, door
        elif not door.changes:
            assert knock(client, door, world).status_code == 200, door
    assert not LogEntry.objects.exists()


def test_nothing_is_taken_without_the_csrf_token(world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    with muted():
        client.force_login(User.objects.create_superuser("boss"))
    for door in DOORS:
        answer = client.post(door.address(world), door.sent(world))
        assert (answer.status_code, b"CSRF" in answer.content) == (403, True), door
    assert not LogEntry.objects.exists()


def test_looking_at_the_address_of_a_change_changes_nothing(world: World) -> None:
    client = boss()
    for door in CHANGES:
        client.get(door.address(world))
    assert not LogEntry.objects.exists()
    assert DeadLetter.objects.count() == ApiToken.objects.count() == 1


def test_a_refusal_says_the_same_of_rows_that_are_and_of_rows_that_are_not(world: World) -> None:
    client = visitor()
    nowhere = dict.fromkeys(world, 987654)
    for door in DOORS:
        there, gone = knock(client, door, world), knock(client, door, nowhere)
        assert (gone.status_code, gone.content) == (there.status_code, there.content), door


ADDRESSES = (BOB, "sent@example.com", "waiting@example.com", "gone@example.com")


def test_what_is_refused_or_not_there_tells_nothing(world: World) -> None:
    nowhere = dict.fromkeys(world, 987654)
    for client in (visitor(), boss()):
        for door in DOORS:
            if door.row and not door.action:
                answer = knock(client, door, nowhere)
                assert answer.status_code in (302, 403, 404), door
                assert not [each for each in ADDRESSES if each in answer.content.decode()], door


def test_the_token_of_somebody_else_is_not_there(world: World) -> None:
    with muted():
        other = make_token(User.objects.create_user("eve"), name="theirs")[0].pk
    client = visitor(*OPERATOR)
    for door in DOORS:
        if door.model == "apitoken" and door.row and door.needs != NOBODY:
            answer = knock(client, door, {"token": other})
            assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/"), door
    assert ApiToken.objects.filter(pk=other).exists()
