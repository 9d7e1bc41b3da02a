"""The lists and pages: they open, ask the database little, and filter."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications import bounds, holds, jobs
from notifications.admin import base
from notifications.models import Attempt, DeadLetter, Hold, Notification, State, Task
from notifications.tasks import all_tasks
from tests.admin.screens import BOB, ask, boss, letter, list_of, page_of, serve, text_of
from tests.orders.shop import make_customer, make_order
from tests.scripted import ACCEPTED, LATER, REFUSED, Script

pytestmark = pytest.mark.django_db(transaction=True)


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
    client = boss()
    assert "more than 3 notifications" in text_of(client, list_of("notification"))
    Notification.objects.order_by("pk")[3:].first().delete()
    Notification.objects.order_by("pk")[3:].first().delete()
    content = text_of(client, list_of("notification"))
    assert "3 notifications" in content
    assert "more than" not in content


def test_a_filter_without_an_index_looks_through_the_newest_rows_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [ask(f"{name}@example.com") for name in ("ann", "bob", "eve")]
    Notification.objects.update(state=State.SENT)
    client = boss()
    for monkey, found in ((rows[-1].pk, 3), (1, 1)):
        monkeypatch.setattr(bounds, "LOOKED_THROUGH", monkey)
        content = text_of(client, list_of("notification"), kind="test_note")
        assert content.count("@example.com") == found
        assert ("This filter looks through the newest 1;" in content) == (found == 1)
    assert "ann@example.com" in text_of(client, list_of("notification"))
    found = text_of(client, list_of("notification"), kind="test_note", q="ann@example.com")
    assert "ann@example.com" in found
    Notification.objects.update(state=State.DEAD)
    failed = text_of(client, list_of("notification"), standing="failed", kind="test_note")
    assert failed.count("@example.com") == 3


@pytest.mark.postgres_only
def test_what_people_ask_for_has_an_index() -> None:
    make_a_year_of_messages()
    client = boss()
    for query, index in (
        ({"q": "ann@example.com"}, "ntf_message_to"),
        ({"q": "<1.a@shop>"}, "ntf_attempt_message_id"),
        ({"q": "once"}, "ntf_message_key"),
        ({"q": "7"}, "ntf_message_about"),
        ({"standing": "failed"}, "ntf_message_failed"),
        ({"standing": "retrying"}, "ntf_message_retrying"),
        ({"standing": "waiting"}, "ntf_message_claim"),
    ):
        with CaptureQueriesContext(connection) as queries:
            client.get(list_of("notification"), query)
        asked = [each["sql"] for each in queries if each["sql"].startswith("SELECT")]
        assert f" {index} " in "\n".join(explain(sql) for sql in asked), query


def make_a_year_of_messages() -> None:
    """Enough rows, and what PostgreSQL knows of them, for the plans of a big table."""
    ask(about=make_order())
    Notification.objects.update(state=State.SENT)
    [values] = Notification.objects.values()
    rows = [
        Notification(**{**values, "id": None, "to": f"{i}@example.com", "about_id": str(i)})
        for i in range(5_000)
    ]
    Notification.objects.bulk_create(rows)
    Attempt.objects.bulk_create(
        Attempt(notification=row, number=1, outcome="accepted", message_id=f"<{row.pk}@shop>")
        for row in rows
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notifications_notification, notifications_attempt")


def explain(sql: str) -> str:
    """How PostgreSQL would go about a query."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}")
        return "\n".join(line for (line,) in cursor.fetchall())


def test_contents_of_mail_are_not_loaded_for_lists(script: Script) -> None:
    ask()
    letter(script, "eve@example.com")
    client = boss()
    for model in ("notification", "deadletter"):
        with CaptureQueriesContext(connection) as queries:
            client.get(list_of(model))
        assert not [each for each in queries if '"content"' in each["sql"]]


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


def test_a_filter_holds_where_there_is_nothing_to_choose_from(script: Script) -> None:
    letter(script)
    client = boss()
    assert "?code=550" not in text_of(client, list_of("deadletter"))
    assert "1 dead letter" in text_of(client, list_of("deadletter"), code="550")
    assert "0 dead letters" in text_of(client, list_of("deadletter"), code="451")


def test_the_dead_letters_offer_their_codes_and_errors_as_filters(script: Script) -> None:
    letter(script)
    task = Task.objects.create(name="shop.stock.load", queue="default", state=State.DEAD)
    DeadLetter.objects.create(task=task, name=task.name, reason="r", attempts=1, code="451")
    client = boss()
    content = text_of(client, list_of("deadletter"))
    assert 'href="?code=451"' in content
    assert 'href="?code=550"' in content
    assert "1 dead letter" in text_of(client, list_of("deadletter"), code="451")


def test_tasks_are_found_by_number_key_function_and_event() -> None:
    event = uuid4()
    name = next(iter(all_tasks()))
    wanted = Task.objects.create(name=name, queue="default", key="once", event_id=event)
    Task.objects.create(name="shop.other", queue="default", event_id=uuid4())
    client = boss()
    for term in (str(wanted.pk), f"#{wanted.pk}", "once", name, str(event), event.hex):
        content = text_of(client, list_of("task"), q=f" {term} ")
        assert "1 task<" in content.replace("\n", "<"), term
        assert page_of(wanted) in content, term
    assert "0 tasks" in text_of(client, list_of("task"), q="nonsense")
