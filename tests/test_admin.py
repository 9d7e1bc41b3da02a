"""The admin's screens: what staff see, may do, and may not."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import AnonymousUser, Permission
from django.db import connection, transaction
from django.test import Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from notifications import holds, jobs, operations
from notifications.admin import base
from notifications.admin.standing import judge
from notifications.admin.timeline import timeline
from notifications.admin.work import mask
from notifications.dispatch import notify, send_email
from notifications.kinds import Kind
from notifications.message import Attachment
from notifications.models import DeadLetter, Hold, Notification, State, Task
from notifications.muting import muted
from notifications.outbox import PARKED
from orders.models import User
from tests.orders.shop import make_customer, make_order
from tests.scripted import ACCEPTED, LATER, REFUSED, Note, Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)

BOB = "bob@example.com"


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


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


def staff(*permissions: str) -> Client:
    with muted():
        user = User.objects.create_user("staff", is_staff=True)
    for permission in permissions:
        app, _dot, code = permission.rpartition(".")
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label=app or "notifications", codename=code)
        )
    return log_in(user)


def boss() -> Client:
    with muted():
        return log_in(User.objects.create_superuser("boss"))


def log_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def ask(to: str = BOB, **options: Any) -> Notification:
    with transaction.atomic():
        return notify(Note, to=to, context={"order_id": 7}, **options)[0]


def letter(script: Script, to: str = BOB) -> DeadLetter:
    script.answer(to, REFUSED)
    row = ask(to)
    jobs.serve("note")
    script.answer(to, ACCEPTED)
    return DeadLetter.objects.get(notification=row)


def serve(row: Notification) -> Notification:
    """Serve the queue until `row` has ended."""
    until = time.monotonic() + 10
    while row.state == State.PENDING or row.state is None:
        assert time.monotonic() < until
        jobs.serve("note")
        row.refresh_from_db()
    return row


def url(model: str, page: str, *args: Any) -> str:
    return reverse(f"admin:notifications_{model}_{page}", args=args)


def list_of(model: str) -> str:
    return url(model, "changelist")


def page_of(row: Any) -> str:
    return url(row._meta.model_name, "change", row.pk)


def text_of(client: Client, address: str, **query: str) -> str:
    answer = client.get(address, query)
    assert answer.status_code == 200
    return answer.content.decode()


# -- looking ------------------------------------------------------------------------------------


def test_every_list_and_page_opens_and_runs_no_script_of_its_own(script: Script) -> None:
    client = boss()
    dead = letter(script)
    task = Task.objects.create(name="shop.stock.load", queue="default", progress=30)
    holds.hold("queue", "default", reason="r")
    pages = [list_of(model) for model in ("notification", "task", "deadletter", "hold")]
    pages += [page_of(row) for row in (dead, dead.notification, task, Hold.objects.get())]
    for address in pages:
        content = text_of(client, address)
        # A strict Content-Security-Policy allows neither scripts nor styles inside the page.
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\s(style|on\w+)=", content), address


@pytest.mark.parametrize("model", ["notification", "task", "deadletter"])
def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(script: Script, model: str) -> None:
    client = boss()
    customer = make_customer()

    def add(count: int) -> None:
        script.answer(BOB, REFUSED)
        for _each in range(count):
            ask(about=make_order(customer))
            task = Task.objects.create(name="x", queue="default", state=State.DEAD)
            DeadLetter.objects.create(task=task, name="x", reason="r", attempts=1)
        jobs.serve("note")

    def count() -> int:
        holds.forget()
        with CaptureQueriesContext(connection) as queries:
            client.get(list_of(model))
        return len(queries)

    add(2)
    client.get(list_of(model))  # content types are looked up once
    few = count()
    add(15)
    assert count() == few <= 12


def test_a_page_takes_as_many_queries_for_many_attempts_as_for_few(script: Script) -> None:
    client = boss()
    script.answer(BOB, *[LATER] * 8, ACCEPTED)
    row = ask(retries=9)
    client.get(page_of(row))

    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(page_of(row)).status_code == 200
        return len(queries)

    jobs.serve("note")
    few = count()
    serve(row)
    assert row.attempt_set.count() == 9
    assert count() <= few


def test_a_list_counts_no_further_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "COUNTED", 3)
    for _each in range(5):
        ask()
    content = text_of(boss(), list_of("notification"))
    assert "3 notifications" in content


def test_contents_of_mail_are_not_loaded_for_lists(script: Script) -> None:
    ask()
    letter(script, "eve@example.com")
    client = boss()
    for model in ("notification", "deadletter"):
        with CaptureQueriesContext(connection) as queries:
            client.get(list_of(model))
        assert not [each for each in queries if '"content"' in each["sql"]]


# -- how a row stands ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "word", "tone"),
    [
        ({}, "waiting", "wait"),
        ({"due_at": timedelta(hours=2)}, "scheduled", "wait"),
        ({"due_at": timedelta(seconds=30), "attempts": 1}, "retrying", "warn"),
        ({"due_at": timedelta(seconds=20), "token": "0" * 32}, "under way", "wait"),
        ({"due_at": timedelta(seconds=-5), "token": "0" * 32}, "waiting", "wait"),
        ({"due_at": PARKED, "reason": "too old"}, "held", "warn"),
    ],
)
def test_a_waiting_row_says_what_it_waits_for(
    columns: dict[str, Any], word: str, tone: str
) -> None:
    due = columns.get("due_at", timedelta(seconds=-1))
    columns = {**columns, "due_at": timezone.now() + due if isinstance(due, timedelta) else due}
    row = ask()
    Notification.objects.update(**columns)
    row.refresh_from_db()
    standing = judge(row)
    assert (standing.word, standing.tone) == (word, tone)
    assert f'<span class="ntf-chip ntf-{tone}">{word}</span>' in text_of(
        boss(), list_of("notification")
    )


@pytest.mark.parametrize("model", [Notification, Task])
@pytest.mark.parametrize("state", set(State) - {State.PENDING})
def test_every_end_has_a_word_a_colour_and_an_answer(model: Any, state: State) -> None:
    row = model(state=state, settled_at=timezone.now(), queue="note", reason="")
    standing = judge(row)
    assert standing.word == state.label
    assert standing.tone in {"good", "warn", "bad", "off"}
    assert str(standing.sentence).endswith(".")
    assert standing.note == "0 s ago"


def test_what_is_held_says_why() -> None:
    row = ask()
    operations.pause("note", reason="the printer burns")
    assert judge(row).word == "held"
    assert "the printer burns" in text_of(boss(), page_of(row))


def test_the_timeline_tells_all_newest_first(script: Script) -> None:
    script.answer(BOB, LATER, REFUSED)
    row = serve(ask())
    with muted():
        someone = User.objects.create_superuser("boss")
    operations.retry(row, by=someone)
    row.refresh_from_db()
    script.answer(BOB, ACCEPTED)
    serve(row)
    assert [(each.title, each.tone) for each in timeline(row)] == [
        ("Attempt 1: accepted by first", "good"),
        ("Retried. – boss", "off"),
        ("Attempt 2: refused for good by first", "bad"),
        ("Attempt 1: failed for now by first", "warn"),
        ("Asked for", "off"),
    ]


def test_the_timeline_ends_with_what_comes_or_with_what_came_of_it(script: Script) -> None:
    row = ask(delay=timedelta(hours=2))
    row.refresh_from_db()
    assert timeline(row)[0].title == "First attempt in 1\xa0hour"
    operations.cancel(row)
    row.refresh_from_db()
    assert timeline(row)[0].title == "Cancelled"
    dead = letter(script)
    assert [each.title for each in timeline(dead.work)][:2] == [
        "Dead",
        "Attempt 1: refused for good by first",
    ]


# -- what it is about ---------------------------------------------------------------------------


def test_the_list_names_the_order_and_links_to_it() -> None:
    order = make_order()
    ask(about=order)
    content = text_of(boss(), list_of("notification"))
    assert f'<a href="/admin/orders/order/{order.pk}/change/">order {order.number}</a>' in content


def test_who_may_not_see_orders_learns_no_number() -> None:
    order = make_order()
    ask(about=order)
    client = staff("view_notification")
    assert order.number not in text_of(client, list_of("notification"))
    assert f"order {order.pk}" in text_of(client, list_of("notification"))
    assert BOB not in text_of(client, list_of("notification"), q=order.number)
    assert "0 notifications" in text_of(client, list_of("notification"), q=order.number)


@pytest.mark.parametrize(
    ("label", "key"), [("orders.order", "999"), ("orders.order", "x"), ("gone.model", "1")]
)
def test_what_is_no_more_is_named_by_its_id(label: str, key: str) -> None:
    ask()
    Notification.objects.update(about_type=label, about_id=key)
    assert f"{label.rpartition('.')[2]} {key}" in text_of(boss(), list_of("notification"))


def test_a_message_is_found_by_the_orders_number() -> None:
    order, customer = make_order(), make_customer("eve")
    ask(about=order)
    ask("eve@example.com", about=make_order(customer))
    client = staff("view_notification", "view_content", "orders.view_order", "view_deadletter")
    for term in (order.number, order.number.lower(), str(order.pk)):
        content = text_of(client, list_of("notification"), q=term)
        assert BOB in content
        assert "eve@example.com" not in content


@pytest.mark.parametrize(
    "found_by", ["7-A", "<1.a@example.com>", "1.a@example.com", "once", "BOB@example.com", "pk"]
)
def test_a_message_is_found_by_its_ids_and_its_address(found_by: str) -> None:
    row = ask()
    ask("eve@example.com")
    Notification.objects.filter(pk=row.pk).update(about_type="a.b", about_id="7-A", key="once")
    row.attempt_set.create(number=1, outcome="accepted", message_id="<1.a@example.com>")
    term = f"#{row.pk}" if found_by == "pk" else found_by
    content = text_of(boss(), list_of("notification"), q=f" {term} ")
    assert BOB in content
    assert "eve@example.com" not in content


def test_an_address_finds_nothing_for_who_may_not_see_it() -> None:
    ask()
    client = staff("view_notification")
    assert "0 notifications" in text_of(client, list_of("notification"), q=BOB)


@pytest.mark.parametrize("found_by", ["number", "fingerprint", "address"])
def test_a_dead_letter_is_found_by_its_order_and_by_its_like(script: Script, found_by: str) -> None:
    dead, order = letter(script), make_order()
    task = Task.objects.create(name="shop.stock.load", queue="default", state=State.DEAD)
    DeadLetter.objects.create(task=task, name=task.name, reason="r", attempts=1, fingerprint="f")
    Notification.objects.update(about_type="orders.order", about_id=str(order.pk))
    term = {"number": order.number, "fingerprint": dead.fingerprint, "address": BOB}[found_by]
    content = text_of(boss(), list_of("deadletter"), q=term)
    assert "1 dead letter" in content
    assert BOB in content


def test_filters_leave_what_they_say() -> None:
    ask()
    sent = ask("eve@example.com")
    Notification.objects.filter(pk=sent.pk).update(state=State.SENT)
    client = boss()
    for query, count in [
        ({"standing": "waiting"}, 1),
        ({"standing": "retrying"}, 0),
        ({"standing": "sent"}, 1),
        ({"standing": "nonsense"}, 2),
        ({"kind": "test_note"}, 2),
        ({"kind": "welcome"}, 0),
        ({"state": "sent"}, 1),
        ({"priority": "2"}, 2),
    ]:
        content = text_of(client, list_of("notification"), **query)
        assert f"{count} notification{'' if count == 1 else 's'}" in content, query


def test_the_dead_letters_offer_their_codes_and_errors_as_filters(script: Script) -> None:
    letter(script)
    task = Task.objects.create(name="shop.stock.load", queue="default", state=State.DEAD)
    DeadLetter.objects.create(task=task, name=task.name, reason="r", attempts=1, code="451")
    client = boss()
    content = text_of(client, list_of("deadletter"))
    assert 'href="?code=451"' in content
    assert 'href="?code=550"' in content
    assert "1 dead letter" in text_of(client, list_of("deadletter"), code="451")


# -- dead letters -------------------------------------------------------------------------------


def test_a_letter_shows_data_error_attempts_and_times(script: Script) -> None:
    dead = letter(script)
    DeadLetter.objects.update(traceback="Traceback (most recent call last): …")
    content = text_of(boss(), page_of(dead))
    died = timezone.localtime(dead.created_at)
    for words in (
        "550 no such user", "order_id = 7", BOB, "Attempt 1: refused for good by first",
        "Traceback (most", f"{died:%Y-%m-%d %H:%M}", "no other",
    ):  # fmt: skip
        assert words in content


def test_a_letter_leads_to_those_like_it(script: Script) -> None:
    dead = letter(script)
    letter(script, "eve@example.com")
    client = boss()
    content = text_of(client, page_of(dead))
    like = f"{list_of('deadletter')}?fingerprint={dead.fingerprint}"
    assert f'<a href="{like}">1 more</a>' in content
    assert "2 dead letters" in text_of(client, like)


def test_retry_delivers_exactly_one(script: Script) -> None:
    dead = letter(script)
    answer = boss().post(url("deadletter", "retry", dead.pk))
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
    content = boss().post(list_of("deadletter"), data, follow=True).content.decode()
    assert "1 will be tried again." in content
    assert Notification.objects.get().state == State.PENDING


def test_delete_removes_the_entry_never_sends_and_leaves_an_audit_line(script: Script) -> None:
    dead = letter(script)
    client = boss()
    address = url("deadletter", "delete", dead.pk)
    assert f'href="{address}"' in text_of(client, page_of(dead))
    assert client.get(address).status_code == 200
    assert DeadLetter.objects.exists()
    client.post(address, {"post": "yes"})
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


# -- rights -------------------------------------------------------------------------------------


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
        ("deadletter", "delete_selected"),
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


# -- one row ------------------------------------------------------------------------------------


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


# -- preview ------------------------------------------------------------------------------------


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


# -- holds --------------------------------------------------------------------------------------


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
    content = text_of(boss(), list_of("hold"))
    words = re.findall(r'<span class="ntf-chip [^"]+">(\w+)</span>', content)
    assert words == ["held", "over", "lifted"]


@pytest.mark.parametrize(
    ("address", "masked"),
    [(BOB, "b…@e….com"), ("+491701234567", "+49…67"), ("12345", "…")],
)
def test_mask(address: str, masked: str) -> None:
    assert mask(address) == masked
