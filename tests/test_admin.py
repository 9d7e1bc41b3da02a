"""The admin's screens: what staff see, may do, and may not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import transaction
from django.test import Client
from django.urls import reverse

from notifications import holds, jobs
from notifications.admin.base import mask
from notifications.dispatch import notify
from notifications.models import DeadLetter, Hold, Notification, State, Task
from tests.scripted import ACCEPTED, REFUSED, Note, Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


def staff(*permissions: str) -> Client:
    user = get_user_model().objects.create_user("staff", is_staff=True)
    codes = [each.split(".")[-1] for each in permissions]
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="notifications", codename__in=codes)
    )
    client = Client()
    client.force_login(user)
    return client


def boss() -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("boss"))
    return client


def ask(to: str = "bob@example.com") -> Notification:
    with transaction.atomic():
        return notify(Note, to=to, context={"order_id": 7})[0]


def letter(script: Script) -> DeadLetter:
    script.answer("bob@example.com", REFUSED)
    ask()
    jobs.serve("note")
    script.answer("bob@example.com", ACCEPTED)
    return DeadLetter.objects.get()


def list_of(model: str) -> str:
    return reverse(f"admin:notifications_{model}_changelist")


def page_of(row: Any) -> str:
    return reverse(f"admin:notifications_{row._meta.model_name}_change", args=[row.pk])


def test_every_list_and_page_opens(script: Script) -> None:
    client = boss()
    dead = letter(script)
    task = Task.objects.create(name="x", queue="default", progress=30)
    holds.hold("queue", "note", reason="r")
    for model in ("notification", "task", "deadletter", "hold"):
        assert client.get(list_of(model)).status_code == 200
    for row in (dead, dead.notification, task):
        assert client.get(page_of(row)).status_code == 200


def test_a_letter_shows_data_error_attempts_and_times(script: Script) -> None:
    page = boss().get(page_of(letter(script))).content.decode()
    for words in ("550 no such user", "order_id = 7", "bob@example.com", "first"):
        assert words in page


def test_retry_delivers_exactly_one(script: Script) -> None:
    dead = letter(script)
    client = boss()
    answer = client.post(reverse("admin:notifications_deadletter_retry", args=[dead.pk]))
    assert (answer.status_code, answer.headers["Location"]) == (302, list_of("deadletter"))
    jobs.serve("note")
    jobs.serve("note")
    assert Notification.objects.get().state == State.SENT
    assert not DeadLetter.objects.exists()
    assert len(script.sent) == 2
    assert LogEntry.objects.get().change_message == "Retried."


def test_the_chosen_are_retried_from_the_list(script: Script) -> None:
    dead = letter(script)
    data = {"action": "retry_chosen", "_selected_action": [dead.pk]}
    page = boss().post(list_of("deadletter"), data, follow=True).content.decode()
    assert "1 will be sent again." in page
    assert Notification.objects.get().state == State.PENDING


def test_delete_removes_the_entry_never_sends_and_leaves_an_audit_line(script: Script) -> None:
    dead = letter(script)
    client = boss()
    url = reverse("admin:notifications_deadletter_delete", args=[dead.pk])
    assert client.get(url).status_code == 200
    assert DeadLetter.objects.exists()
    client.post(url, {"post": "yes"})
    jobs.serve("note")
    assert not DeadLetter.objects.exists()
    assert Notification.objects.get().state == State.DEAD
    assert len(script.sent) == 1
    assert LogEntry.objects.get().is_deletion()


def test_the_chosen_are_deleted_after_a_confirmation(script: Script) -> None:
    dead = letter(script)
    client = boss()
    data = {"action": "delete_selected", "_selected_action": [dead.pk]}
    assert client.post(list_of("deadletter"), data).status_code == 200
    assert DeadLetter.objects.exists()
    client.post(list_of("deadletter"), {**data, "post": "yes"})
    assert not DeadLetter.objects.exists()
    assert LogEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("permission", "url"),
    [
        ("view_deadletter", "admin:notifications_deadletter_retry"),
        ("view_deadletter", "admin:notifications_deadletter_delete"),
        ("view_notification", "admin:notifications_retry"),
        ("view_notification", "admin:notifications_cancel"),
        ("view_task", "admin:notifications_task_retry"),
    ],
)
def test_who_may_only_look_gets_403(script: Script, permission: str, url: str) -> None:
    dead = letter(script)
    pk = dead.pk if "deadletter" in url else dead.notification_id
    assert staff(permission).post(reverse(url, args=[pk])).status_code == 403
    assert DeadLetter.objects.exists()


@pytest.mark.parametrize("action", ["retry_chosen", "delete_selected"])
def test_an_action_without_its_permission_gets_403(script: Script, action: str) -> None:
    dead = letter(script)
    data = {"action": action, "_selected_action": [dead.pk], "post": "yes"}
    assert staff("view_deadletter").post(list_of("deadletter"), data).status_code == 403
    assert DeadLetter.objects.exists()


def test_staff_without_rights_see_nothing(script: Script) -> None:
    dead = letter(script)
    client = staff()
    for url in (list_of("notification"), list_of("deadletter"), page_of(dead)):
        assert client.get(url).status_code == 403


def test_changes_are_post_only(script: Script) -> None:
    dead = letter(script)
    url = reverse("admin:notifications_deadletter_retry", args=[dead.pk])
    assert boss().get(url).status_code == 405


def test_changes_need_the_csrf_token(script: Script) -> None:
    dead = letter(script)
    client = Client(enforce_csrf_checks=True)
    client.force_login(get_user_model().objects.create_superuser("boss"))
    url = reverse("admin:notifications_deadletter_retry", args=[dead.pk])
    assert client.post(url).status_code == 403


def test_addresses_and_contents_are_masked_from_who_may_not_see_them(script: Script) -> None:
    dead = letter(script)
    client = staff("view_deadletter", "view_notification", "view_attempt")
    for url in (list_of("deadletter"), page_of(dead), list_of("notification"), page_of(dead.work)):
        page = client.get(url).content.decode()
        assert "bob@example.com" not in page
        assert "b…@e….com" in page
        assert "order_id = 7" not in page


def test_a_waiting_row_can_be_cancelled_from_its_page() -> None:
    row = ask()
    client = boss()
    assert "Cancel" in client.get(page_of(row)).content.decode()
    client.post(reverse("admin:notifications_cancel", args=[row.pk]))
    row.refresh_from_db()
    assert row.state == State.CANCELLED
    page = client.post(reverse("admin:notifications_cancel", args=[row.pk]), follow=True)
    assert "only what waits can be cancelled" in page.content.decode()
    client.post(reverse("admin:notifications_retry", args=[row.pk]))
    row.refresh_from_db()
    assert row.state == State.PENDING


def test_the_chosen_rows_are_cancelled_and_retried_from_the_list() -> None:
    row = ask()
    client = boss()
    for action, state in (("cancel_chosen", State.CANCELLED), ("retry_chosen", State.PENDING)):
        data = {"action": action, "_selected_action": [row.pk]}
        client.post(list_of("notification"), data)
        row.refresh_from_db()
        assert row.state == state


@pytest.mark.parametrize("found_by", ["7-A", "msg-1", "once", "bob@example.com", "pk"])
def test_a_message_is_found_by_what_it_is_about_its_ids_and_its_address(found_by: str) -> None:
    row = ask()
    ask("eve@example.com")
    Notification.objects.filter(pk=row.pk).update(about_type="a.b", about_id="7-A", key="once")
    row.attempt_set.create(number=1, outcome="accepted", message_id="msg-1")
    term = str(row.pk) if found_by == "pk" else found_by
    page = boss().get(list_of("notification"), {"q": term}).content.decode()
    assert "bob@example.com" in page
    assert "eve@example.com" not in page


def test_an_address_finds_nothing_for_who_may_not_see_it() -> None:
    ask()
    client = staff("view_notification")
    page = client.get(list_of("notification"), {"q": "bob@example.com"}).content.decode()
    assert "b…@e….com" not in page


def test_holds_are_lifted_by_who_may(script: Script) -> None:
    holds.hold("queue", "note", reason="r")
    held = Hold.objects.get()
    data = {"action": "lift_chosen", "_selected_action": [held.pk]}
    staff("view_hold").post(list_of("hold"), data)
    held.refresh_from_db()
    assert held.lifted_at is None
    boss().post(list_of("hold"), data)
    held.refresh_from_db()
    assert held.lifted_at is not None


def test_a_preview_runs_no_script_and_asks_for_its_permission() -> None:
    row = ask()
    url = reverse("admin:notifications_preview", args=[row.pk])
    answer = boss().get(url)
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert "bob@example.com" in answer.content.decode()
    assert staff("view_notification").get(url).status_code == 403


def test_a_preview_that_cannot_be_made_says_why() -> None:
    row = ask()
    Notification.objects.update(kind="gone")
    answer = boss().get(reverse("admin:notifications_preview", args=[row.pk]))
    assert "UnknownKind" in answer.content.decode()


@pytest.mark.parametrize(
    ("address", "masked"),
    [("bob@example.com", "b…@e….com"), ("+491701234567", "+49…67"), ("12345", "…")],
)
def test_mask(address: str, masked: str) -> None:
    assert mask(address) == masked
