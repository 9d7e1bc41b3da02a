"""Who may see and do what."""

from __future__ import annotations

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import AnonymousUser
from django.test import Client, RequestFactory

from notifications.models import DeadLetter, Notification, State, Task
from notifications.muting import muted
from notifications.redaction import mask
from orders.models import User
from tests.admin.screens import BOB, ask, boss, letter, list_of, page_of, staff, text_of, url
from tests.scripted import Script

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("permission", "model", "verb"),
    [
        ("view_deadletter", "deadletter", "retry"),
        ("view_deadletter", "deadletter", "delete"),
        ("view_notification", "notification", "retry"),
        ("view_notification", "notification", "cancel"),
        ("view_task", "task", "retry"),
        ("view_task", "task", "cancel"),
    ],
)
def test_who_may_only_look_gets_403_and_no_button(
    script: Script, permission: str, model: str, verb: str
) -> None:
    dead = letter(script)
    task = Task.objects.create(name="x", queue="default", state=State.DEAD)
    row = {"deadletter": dead, "notification": dead.notification, "task": task}[model]
    client = staff(permission)
    address = url(model, verb, row.pk)
    assert address not in text_of(client, page_of(row))
    assert client.post(address, {"post": "yes"}).status_code == 403
    assert DeadLetter.objects.exists()
    assert Notification.objects.get().state == State.DEAD


@pytest.mark.parametrize(
    ("model", "action"),
    [
        ("deadletter", "retry_chosen"),
        ("deadletter", "discard_chosen"),
        ("notification", "retry_chosen"),
        ("notification", "cancel_chosen"),
        ("task", "retry_chosen"),
        ("hold", "lift_chosen"),
    ],
)
def test_an_action_without_its_permission_gets_403(script: Script, model: str, action: str) -> None:
    dead = letter(script)
    data = {"action": action, "_selected_action": [dead.pk], "post": "yes"}
    assert staff(f"view_{model}").post(list_of(model), data).status_code == 403
    assert DeadLetter.objects.exists()


def test_staff_without_rights_see_nothing(script: Script) -> None:
    dead = letter(script)
    client = staff()
    for address in (list_of("notification"), list_of("deadletter"), page_of(dead)):
        assert client.get(address).status_code == 403


@pytest.mark.parametrize("verb", ["retry", "cancel"])
def test_changes_are_post_only(verb: str) -> None:
    row = ask()
    assert boss().get(url("notification", verb, row.pk)).status_code == 405


def test_changes_need_the_csrf_token(script: Script) -> None:
    dead = letter(script)
    client = Client(enforce_csrf_checks=True)
    with muted():
        client.force_login(User.objects.create_superuser("boss"))
    assert client.post(url("deadletter", "retry", dead.pk)).status_code == 403
    assert client.post(url("hold", "pause"), {"queue": "note"}).status_code == 403


def test_addresses_and_contents_are_masked_from_who_may_not_see_them(script: Script) -> None:
    dead = letter(script)
    client = staff("view_deadletter", "view_notification", "view_task")
    for address in (
        list_of("deadletter"), page_of(dead), list_of("notification"), page_of(dead.work),
    ):  # fmt: skip
        content = text_of(client, address)
        assert BOB not in content
        assert "b…@e….com" in content
        assert "order_id = 7" not in content
    task = Task.objects.create(name="x", queue="default", payload={"to": BOB}, result=[BOB])
    assert BOB not in text_of(client, page_of(task))
    assert BOB in text_of(boss(), page_of(task))


def test_what_one_person_may_see_is_not_shown_to_another_at_the_same_time() -> None:
    ask()
    admin = site.get_model_admin(Notification)
    with muted():
        everything = RequestFactory().get(list_of("notification"))
        everything.user = User.objects.create_superuser("boss")
    nothing = RequestFactory().get(list_of("notification"))
    nothing.user = AnonymousUser()
    masked = admin.get_changelist_instance(nothing)
    admin.get_changelist_instance(everything)
    assert BOB not in admin.who(masked.result_list[0])


GUESSES = {
    "notification": (
        "to=bob@example.com", "to__startswith=b", "to__iexact=bob@example.com", "to__regex=^b",
        "context__order_id=7", "context__contains=7", "user__email__startswith=b", "token=x",
        "user__password__gte=b", "state__startswith=p", "key__startswith=b",
    ),
    "task": ("payload__email__startswith=b", "payload__contains=x", "result__gt=1"),
    "deadletter": ("notification__to__startswith=b", "fingerprint__regex=(", "traceback__gt=b"),
    "hold": ("by__password__startswith=b", "reason__regex=("),
    "apitoken": ("digest__startswith=b", "user__password__startswith=b"),
}  # fmt: skip


def test_an_address_asks_for_nothing_that_the_list_does_not_offer() -> None:
    """What is masked could be found out letter by letter."""
    client = boss()
    for model, guesses in GUESSES.items():
        for guess in guesses:
            assert client.get(f"{list_of(model)}?{guess}").status_code == 400, guess


OFFERED = {
    "notification": ("standing=sent", "kind=x", "channel=note", "priority__exact=2", "priority=2",
                     "state=sent", "queue=note"),
    "task": ("standing=done", "queue=default", "topic=x", "state=done"),
    "deadletter": ("name=x", "error=x", "code=550", "queue=note", "fingerprint=x"),
    "hold": ("scope__exact=queue", "cause__exact=person", "open=1"),
    "suppression": ("reason__exact=bounce", "channel=note"),
    "registeredtemplate": ("status=APPROVED", "language=en"),
}  # fmt: skip


def test_what_filters_and_links_ask_for_is_answered() -> None:
    client = boss()
    for model, questions in OFFERED.items():
        for asked in questions:
            assert client.get(f"{list_of(model)}?{asked}").status_code == 200, asked


@pytest.mark.parametrize("model", ["notification", "deadletter"])
def test_only_who_may_see_addresses_finds_by_them(script: Script, model: str) -> None:
    row = letter(script)
    page = page_of(row if model == "deadletter" else row.work)
    assert page in text_of(boss(), list_of(model), q=BOB)
    assert page not in text_of(staff(f"view_{model}"), list_of(model), q=BOB)


@pytest.mark.parametrize(
    ("address", "masked"),
    [(BOB, "b…@e….com"), ("+491701234567", "+49…67"), ("12345", "…")],
)
def test_mask(address: str, masked: str) -> None:
    assert mask(address) == masked
