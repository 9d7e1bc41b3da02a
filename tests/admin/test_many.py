"""Many dead letters at once: grouped, asked about, frozen, and done in the background."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from notifications import bulk, jobs, tasks
from notifications.admin import dead_letters
from notifications.models import DeadLetter, Notification, State, Task
from tests.admin.screens import BOB, boss, letter, list_of, page_of, staff, text_of, url
from tests.scripted import REFUSED, Script

pytestmark = pytest.mark.django_db(transaction=True)

EVE = "eve@example.com"


def answer(client: Client, question: str, **values: str) -> Any:
    """Say yes to a question."""
    [asked] = re.findall(r'name="asked" value="([^"]+)"', question)
    return client.post(url("deadletter", "many"), {"asked": asked, **values}, follow=True)


def run() -> Task:
    row = Task.objects.latest("pk")
    while row.state == State.PENDING:
        assert tasks.run_due("default")
        row.refresh_from_db()
    return row


def states() -> list[str]:
    return list(Notification.objects.order_by("pk").values_list("state", flat=True))


def other(name: str = "shop.stock.load", code: str = "451") -> DeadLetter:
    task = Task.objects.create(name=name, queue="documents", state=State.DEAD)
    return DeadLetter.objects.create(
        task=task, name=name, queue="documents", reason="r", attempts=1, code=code, fingerprint=code
    )


def test_what_died_of_the_same_is_one_group(script: Script) -> None:
    dead = letter(script)
    letter(script, EVE)
    other()
    client = boss()
    content = text_of(client, url("deadletter", "groups"))
    chips = re.findall(r'<span class="ntf-chip ntf-bad">(\w+)</span>', content)
    counts = re.findall(r'class="ntf-number">(\d+)<', content)
    assert (chips, counts) == (["451", "550"], ["1", "2"])
    assert f"?verb=retry&amp;fingerprint={dead.fingerprint}" in content
    assert "Load" in content
    looker = text_of(staff("view_deadletter"), url("deadletter", "groups"))
    assert "?verb=" not in looker
    DeadLetter.objects.all().delete()
    assert "Nothing gave up." in text_of(client, url("deadletter", "groups"))


def test_a_group_is_retried_after_a_question_that_counts_and_shows_some(script: Script) -> None:
    dead = letter(script)
    letter(script, EVE)
    other()
    client = boss()
    query = {"verb": "retry", "fingerprint": dead.fingerprint}
    question = text_of(client, url("deadletter", "many"), **query)
    assert "Retry 2 dead letters?" in question
    assert BOB in question
    letter(script, "later@example.com")
    done = answer(client, question)
    assert '<meta http-equiv="refresh" content="5">' in done.content.decode()
    row = run()
    assert done.redirect_chain[-1][0] == page_of(row)
    assert states() == [State.PENDING, State.PENDING, State.DEAD]
    content = text_of(client, page_of(row))
    assert "<dt>Done</dt><dd>2 of 2</dd>" in content
    assert "retry 2 dead letters" in content
    assert 'http-equiv="refresh"' not in content
    assert DeadLetter.objects.filter(task__isnull=False).exists()


def test_the_sample_is_masked_from_who_may_not_see_addresses(script: Script) -> None:
    letter(script)
    client = staff("view_deadletter", "retry_deadletter")
    question = text_of(client, url("deadletter", "many"), verb="retry")
    assert BOB not in question
    assert "b…@e….com" in question
    done = answer(client, question)
    assert done.redirect_chain[-1][0] == list_of("deadletter")  # it may not see tasks


def test_the_chosen_are_discarded_after_a_question(script: Script) -> None:
    dead = letter(script)
    letter(script, EVE)
    client = boss()
    data = {"action": "discard_chosen", "_selected_action": [dead.pk]}
    question = client.post(list_of("deadletter"), data).content.decode()
    assert "Discard 1 dead letter without sending?" in question
    assert DeadLetter.objects.count() == 2
    answer(client, question)
    run()
    jobs.serve("note")
    assert [each.notification.to for each in DeadLetter.objects.all()] == [EVE]
    assert states() == [State.DEAD, State.DEAD]


def test_all_that_match_a_filter_are_more_than_one_page_shows(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MOST_CHOSEN", 1)
    dead = letter(script)
    letter(script, EVE)
    other()
    client = boss()
    data = {"action": "retry_chosen", "_selected_action": [dead.pk], "select_across": "1"}
    question = client.post(f"{list_of('deadletter')}?code=550&p=1", data).content.decode()
    assert "Retry 2 dead letters?" in question
    searched = client.post(f"{list_of('deadletter')}?q=", data, follow=True)
    assert "can be chosen by a filter only" in searched.content.decode()


def test_a_canary_goes_first_and_stops_the_rest(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CANARIES", 1)
    letter(script)
    letter(script, EVE)
    client = boss()
    question = text_of(client, url("deadletter", "many"), verb="retry")
    assert 'name="canary"' in question
    monkeypatch.setattr(bulk, "CANARY_LOOK", 0.0)
    script.answer(BOB, REFUSED)
    answer(client, question, canary="on")
    row = Task.objects.latest("pk")
    tasks.run_due("default")
    jobs.serve("note")
    run()
    assert states() == [State.DEAD, State.DEAD]
    assert "1 of 2; stopped: 1 of 1 sent first failed again" in text_of(client, page_of(row))


def test_what_runs_is_stopped_from_its_page(script: Script) -> None:
    letter(script)
    client = boss()
    answer(client, text_of(client, url("deadletter", "many"), verb="retry"))
    row = Task.objects.latest("pk")
    Task.objects.update(started=True, token="0" * 32)  # between two batches of a worker
    client.post(url("task", "cancel", row.pk))
    row.refresh_from_db()
    assert row.state == State.CANCELLED
    assert states() == [State.DEAD]


def test_a_forged_or_old_question_does_nothing(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter(script)
    client = boss()
    question = text_of(client, url("deadletter", "many"), verb="retry")
    forged = client.post(url("deadletter", "many"), {"asked": "x"}, follow=True)
    assert "too old" in forged.content.decode()
    monkeypatch.setattr(dead_letters, "ASKED", -1)
    assert "too old" in answer(client, question).content.decode()
    assert not Task.objects.exists()


def test_nothing_to_do_is_said_and_nonsense_is_not_found() -> None:
    client = boss()
    address = url("deadletter", "many")
    answered = client.get(address, {"verb": "retry", "code": "999"}, follow=True)
    assert "There is none." in answered.content.decode()
    assert client.get(address, {"verb": "empty"}).status_code == 404
