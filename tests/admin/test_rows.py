"""What can be done with one row, and its preview."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings

from notifications.admin import work
from notifications.dispatch import notify, send_email
from notifications.kinds import Kind
from notifications.message import Attachment
from notifications.models import Notification, Receipt, State, Task
from orders.models import User
from tests.admin.screens import BOB, ask, boss, letter, list_of, page_of, staff, text_of, url
from tests.orders.shop import make_customer
from tests.scripted import Script

pytestmark = pytest.mark.django_db(transaction=True)


class SecretNote(Kind):
    """A kind with a secret."""

    name = "test_secret_note"
    channels = ("note",)
    secret = True

    @classmethod
    def prepare(cls, batch: Any) -> Any:
        return [{"code": "REAL-SECRET"} for _row in batch]

    @classmethod
    def sample(cls) -> Any:
        return {"code": "SAMPLE"}


def test_a_waiting_row_can_be_cancelled_from_its_page() -> None:
    row = ask()
    client = boss()
    assert "Cancel" in text_of(client, page_of(row))
    client.post(url("notification", "cancel", row.pk))
    row.refresh_from_db()
    assert row.state == State.CANCELLED
    answer = client.post(url("notification", "cancel", row.pk), follow=True)
    assert "only what waits can be cancelled" in answer.content.decode()
    client.post(url("notification", "retry", row.pk))
    row.refresh_from_db()
    assert row.state == State.PENDING


def test_a_task_can_be_run_again_from_its_page() -> None:
    row = Task.objects.create(name="shop.stock.load", queue="default", state=State.DEAD)
    client = boss()
    assert url("task", "retry", row.pk) in text_of(client, page_of(row))
    client.post(url("task", "retry", row.pk))
    row.refresh_from_db()
    assert row.state == State.PENDING


def test_a_dead_row_leads_to_its_letter(script: Script) -> None:
    dead = letter(script)
    assert page_of(dead) in text_of(boss(), page_of(dead.work))
    assert page_of(dead) not in text_of(staff("view_notification"), page_of(dead.work))


def test_a_task_shows_how_far_it_is() -> None:
    Task.objects.create(name="shop.stock.load", queue="default", progress=40)
    assert '<progress max="100" value="40">' in text_of(boss(), list_of("task"))


def test_the_chosen_rows_are_cancelled_and_retried_from_the_list() -> None:
    row = ask()
    client = boss()
    for action, state in (("cancel_chosen", State.CANCELLED), ("retry_chosen", State.PENDING)):
        data = {"action": action, "_selected_action": [row.pk]}
        client.post(list_of("notification"), data)
        row.refresh_from_db()
        assert row.state == state


@pytest.mark.parametrize("action", ["retry_chosen", "cancel_chosen"])
def test_an_action_takes_only_as_many_as_a_request_has_time_for(
    action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "CHOSEN", 1)
    rows = [ask(), ask()]
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    content = boss().post(list_of("notification"), data, follow=True).content.decode()
    assert "Choose at most 1 here." in content
    assert set(Notification.objects.values_list("state", flat=True)) == {State.PENDING}


def test_a_preview_runs_no_script_and_asks_for_its_permission() -> None:
    row = ask()
    address = url("notification", "preview", row.pk)
    client = boss()
    assert f'src="{address}" sandbox=""' in text_of(client, page_of(row))
    answer = client.get(address)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert BOB in answer.content.decode()
    looker = staff("view_notification")
    assert address not in text_of(looker, page_of(row))
    assert looker.get(address).status_code == 403
    User.objects.filter(username="staff").delete()
    assert staff("view_content").get(address).status_code == 403


def test_the_page_shows_a_mails_headers_beside_its_preview() -> None:
    queues = {"email": {"URL": "redis://127.0.0.1:1/0"}}
    mail = override_settings(NOTIFICATIONS={"FROM_EMAIL": "a@example.com"}, RQ_QUEUES=queues)
    with mail, transaction.atomic():
        (row,) = send_email(
            to=BOB,
            subject="Grüße <b>",
            html="<b>bold</b>",
            text="plain",
            reply_to=["help@example.com"],
            attachments=[Attachment("bill.pdf", b"%PDF")],
        )
        client = boss()
        content = text_of(client, page_of(row))
        for words in ("Grüße &lt;b&gt;", "a@example.com", "help@example.com", "bill.pdf", "?text"):
            assert words in content
        address = url("notification", "preview", row.pk)
        assert text_of(client, address) == "<b>bold</b>"
        assert text_of(client, address, text="") == "plain"
        Notification.objects.update(content=None)
        assert "erased when it was sent" in text_of(client, page_of(row))
        assert "<iframe" not in text_of(client, page_of(row))
        assert "erased when it was sent" in text_of(client, address)


def test_a_secret_is_shown_by_its_sample() -> None:
    with transaction.atomic():
        (row,) = notify(SecretNote, to=BOB)
    client = boss()
    for address in (page_of(row), url("notification", "preview", row.pk)):
        assert "REAL-SECRET" not in text_of(client, address)
    assert "holds a secret" in text_of(client, page_of(row))
    assert "SAMPLE" in text_of(client, url("notification", "preview", row.pk))


@pytest.mark.parametrize("kind", ["password_reset", "verification_code"])
def test_the_shops_secrets_are_secret(kind: str) -> None:
    row = ask()
    Notification.objects.update(kind=kind, context={"user_id": make_customer().pk})
    assert "holds a secret" in text_of(boss(), page_of(row))


def test_a_preview_that_cannot_be_made_says_why() -> None:
    row = ask()
    Notification.objects.update(kind="gone")
    client = boss()
    for address in (page_of(row), url("notification", "preview", row.pk)):
        assert "UnknownKind" in text_of(client, address)


def test_a_key_that_no_row_can_have_is_not_found(script: Script) -> None:
    client = boss()
    for key in ("abc", "9" * 25, "9" * 5000):
        for model, verb in (("notification", "retry"), ("deadletter", "retry"), ("task", "cancel")):
            assert client.post(url(model, verb, key)).status_code == 404
        for verb in ("preview", "resend"):
            assert client.get(url("notification", verb, key)).status_code == 404
        for model in ("notification", "task", "deadletter", "deed"):
            text_of(client, list_of(model), q=key)
            text_of(client, list_of(model), q=f"#{key}")
        text_of(client, list_of("deed"), before=key)
        data = {"action": "retry_chosen", "_selected_action": [key]}
        assert client.post(list_of("notification"), data).status_code == 400


def test_a_nul_in_an_address_is_no_error_of_ours() -> None:
    """PostgreSQL refuses it."""
    client = boss()
    for asked in ("kind", "state", "queue"):
        assert client.get(list_of("notification"), {asked: "\0"}).status_code == 400
    for model in ("notification", "task", "deadletter", "suppression", "deed"):
        text_of(client, list_of(model), q="\0")
    many = {"verb": "retry", "code": "\0"}
    assert client.get(url("deadletter", "many"), many).status_code == 400
    row = ask()
    Notification.objects.update(state=State.SENT)
    assert client.post(url("notification", "resend", row.pk), {"key": "\0"}).status_code == 302


def test_what_the_provider_reported_is_on_the_timeline() -> None:
    row = ask()
    Receipt.objects.create(
        provider="scripted", key="1", fate="delivered", code="250", text="OK", notification=row
    )
    content = text_of(boss(), page_of(row))
    assert "scripted reports: delivered</strong> <span>250 OK</span>" in content
