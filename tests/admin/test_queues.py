"""The screens of queues and workers."""

from __future__ import annotations

import os
import re
from datetime import timedelta

import pytest
from django.test import override_settings
from django.utils import timezone
from redis import Redis
from rq import Worker

from notifications import health, holds, statistics, tasks
from notifications.models import Heartbeat, Hold, Notification, State, Task
from tests.admin.screens import ask, boss, letter, list_of, page_of, staff, text_of, url
from tests.scripted import Script

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_list_says_how_each_queue_stands(script: Script) -> None:
    letter(script)
    ask()
    holds.hold("queue", "default", reason="the printer burns", seconds=3600)
    content = text_of(boss(), list_of("queue"))
    words = re.findall(r'<span class="ntf-chip ntf-\w+">([\w ]+)</span>', content)
    assert words == ["paused", "working", "of the host"]
    assert "the printer burns" in content
    assert "?queue=note" in content
    holds.hold("all", reason="stop")
    assert "Nothing goes out:" in text_of(staff("view_hold"), list_of("queue"))


def test_a_queue_whose_providers_are_all_held_is_held() -> None:
    held = '<span class="ntf-chip ntf-warn">held</span>'
    assert held not in text_of(boss(), list_of("queue"))
    holds.hold("provider", "first", reason="401", cause="provider")
    assert held in text_of(staff("view_hold"), list_of("queue"))


def test_a_count_without_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MOST", 1)
    ask()
    ask()
    assert "<dd>1+</dd>" in text_of(boss(), url("queue", "one", "note"))


def test_a_queue_is_paused_and_resumed_from_its_page() -> None:
    client = boss()
    data = {"minutes": "90", "reason": "the printer burns"}
    answer = client.post(url("queue", "pause", "note"), data, follow=True)
    content = answer.content.decode()
    assert "The queue is paused." in content
    assert "the printer burns · boss · in 1\xa0hour" in content
    assert Hold.objects.get().until - timezone.now() > timedelta(minutes=89)
    answer = client.post(url("queue", "resume", "note"), follow=True)
    assert "The queue goes on." in answer.content.decode()
    answer = client.post(url("queue", "resume", "note"), follow=True)
    assert "Nothing held it." in answer.content.decode()


def test_emptying_asks_for_the_queues_name() -> None:
    row, client = ask(), boss()
    address = url("queue", "empty", "note")
    for name in ("", "default", "Note"):
        answer = client.post(address, {"name": name})
        assert 'class="errornote"' in answer.content.decode()
    assert not Task.objects.exists()
    answer = client.post(address, {"name": "note"}, follow=True)
    task = Task.objects.get()
    assert page_of(task) in answer.content.decode()
    tasks.run_due("default")
    row.refresh_from_db()
    assert row.state == State.CANCELLED
    answer = client.post(address, {"name": "note"}, follow=True)
    assert "Nothing waits." in answer.content.decode()


def test_cleaning_takes_states_and_an_age() -> None:
    long_ago = timezone.now() - timedelta(days=9)
    ask()
    Notification.objects.update(state=State.SENT, settled_at=long_ago, created_at=long_ago)
    client = boss()
    address = url("queue", "clean", "note")
    for data in ({"days": "3"}, {"states": ["pending"], "days": "3"}, {"states": ["sent"]}):
        assert 'class="errornote"' in client.post(address, data).content.decode()
    client.post(address, {"states": ["sent"], "days": "3"})
    tasks.run_due("default")
    assert not Notification.objects.exists()


def test_a_pause_that_makes_no_sense_is_refused_with_the_reason() -> None:
    content = boss().post(url("queue", "pause", "note"), {"minutes": "0"}).content.decode()
    assert 'class="errornote"' in content
    assert not Hold.objects.exists()


def test_who_may_only_look_sees_no_forms() -> None:
    assert "<form class=" not in text_of(staff("view_hold"), url("queue", "one", "note"))


def test_who_may_pause_but_not_look_is_sent_elsewhere() -> None:
    answer = staff("manage_queue").post(url("queue", "pause", "note"))
    assert answer.headers["Location"] == "/admin/"


@pytest.mark.parametrize("name", ["host", "gone"])
def test_other_queues_have_no_page(name: str) -> None:
    client = boss()
    assert client.get(url("queue", "one", name)).status_code == 404
    assert client.post(url("queue", "pause", name)).status_code == 404


def test_without_redis_the_workers_are_not_known() -> None:
    assert "Redis does not answer" in text_of(boss(), list_of("worker"))


def test_clocks_are_listed_even_without_redis() -> None:
    health.beat("web-1:7", ["note", "default"])
    health.beat("web-2:8", [])
    Heartbeat.objects.filter(name="web-2:8").update(seen_at=timezone.now() - timedelta(hours=1))
    content = text_of(boss(), list_of("worker"))
    assert "web-1:7" in content
    assert "note, default" in content
    assert re.findall(r'ntf-chip ntf-(\w+)">(\w+)<', content) == [
        ("good", "alive"), ("off", "silent"),
    ]  # fmt: skip


def test_workers_are_listed_and_unserved_queues_named(redis: Redis) -> None:
    both = {name: {"URL": os.environ["REDIS_URL"]} for name in ("note", "host")}
    with override_settings(RQ_QUEUES=both):
        client = boss()
        assert "No worker is known." in text_of(client, list_of("worker"))
        worker = Worker(["note"], connection=redis, name="w1")
        worker.register_birth()
        worker.heartbeat()
        content = text_of(client, list_of("worker"))
        redis.hset("rq:worker:w1", "last_heartbeat", "2026-01-01T00:00:00.000000Z")
        silent = text_of(client, list_of("worker"))
        worker.register_death()
        redis.delete("rq:worker:w1")
    assert "w1" in content
    assert "Nobody serves: host" in content
    assert '<span class="ntf-chip ntf-bad">silent</span>' in silent
