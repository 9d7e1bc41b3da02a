"""The lists and pages: they open, ask the database little, and filter."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications import holds, jobs
from notifications.admin import base
from notifications.models import DeadLetter, Hold, Notification, State, Task
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
