"""What the person on call sees: counts, health, metrics, and the commands that show them."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import django_rq
import pytest
from django.core.management import CommandError, call_command
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models.functions import Now, TruncDay, TruncHour
from django.test import Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from notifications import (
    clock,
    events,
    health,
    holds,
    hostjobs,
    jobs,
    metrics,
    operations,
    queues,
    reporting,
    statistics,
    tallies,
    tasks,
    turnstile,
    vitals,
)
from notifications.dispatch import notify
from notifications.events import on, publish
from notifications.health import Level
from notifications.models import (
    Alert,
    Attempt,
    DeadLetter,
    Heartbeat,
    Hold,
    Notification,
    QueueTally,
    Receipt,
    State,
    Tally,
    Task,
    Watermark,
)
from notifications.muting import muted
from notifications.retries import RetryPolicy
from notifications.statistics import EventStats
from notifications.testing.guarded import find_free_port
from orders.models import User
from tests.scripted import ACCEPTED, REFUSED, Note, Script, scripted
from tests.servers import RedisServer
from tests.workers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

BOB = "bob@example.com"
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


def ask(to: str = BOB, count: int = 1, **options: Any) -> list[Notification]:
    with transaction.atomic():
        return notify(Note, to=[to] * count, **options)


def die(script: Script, count: int = 1) -> None:
    script.answer("dead@example.com", REFUSED)
    ask("dead@example.com", count)
    jobs.serve("note")


def age_everything(seconds: int = 20) -> None:
    """As if all of it had happened a little earlier."""
    ago = Now() - timedelta(seconds=seconds)
    for model, field in ((Attempt, "created_at"), (DeadLetter, "created_at"),
                         (Receipt, "received_at")):  # fmt: skip
        model._default_manager.update(**{field: ago})


def count() -> None:
    age_everything()
    tallies.count_new()  # makes the watermarks where there are none
    tallies.count_new()


# -- tallies ------------------------------------------------------------------------------------


def told() -> dict[tuple[str, str, str, str], int]:
    return {
        (each.queue, each.name, each.provider, each.what): each.count
        for each in Tally.objects.all()
    }


def test_what_happened_is_counted_once_by_queue_kind_provider_and_outcome(script: Script) -> None:
    ask(count=3)
    jobs.serve("note")
    die(script, 2)
    row = Notification.objects.filter(to=BOB).first()
    Receipt.objects.create(provider="first", key="1", fate="read", notification=row)
    count()
    expected = {
        ("note", "test_note", "first", "accepted"): 3,
        ("note", "test_note", "first", "permanent"): 2,
        ("note", "test_note", "first", "read"): 1,
        ("note", "test_note", "", "dead"): 2,
    }
    assert told() == expected
    count()
    assert told() == expected
    ask()
    jobs.serve("note")
    count()
    assert told()[("note", "test_note", "first", "accepted")] == 4
    assert not Tally.objects.exclude(since__minute__in=(0, 15, 30, 45)).exists()


def test_what_may_still_be_committed_is_left_for_later() -> None:
    ask()
    jobs.serve("note")
    tallies.count_new()
    tallies.count_new()
    assert told() == {}


def test_counts_outlive_the_rows_and_end_after_forty_days() -> None:
    ask()
    jobs.serve("note")
    count()
    Notification.objects.all().delete()
    assert sum(told().values()) == 1
    assert tallies.forget_old() == 0
    for model in (Tally, QueueTally):
        model.objects.update(since=Now() - timedelta(days=41))
    assert tallies.forget_old() == 2


def outcomes() -> dict[str, float]:
    """The counters as Prometheus would read them, by outcome."""
    families = {
        each.name: each for each in text_string_to_metric_families(metrics.render().decode())
    }
    return {
        each.labels["outcome"]: each.value for each in families["notifications_outcomes"].samples
    }


def test_a_counter_never_falls_however_old_what_it_counts(script: Script) -> None:
    ask(count=4)
    jobs.serve("note")
    die(script, 2)
    count()
    before = outcomes()
    assert before == {"accepted": 4, "permanent": 2, "dead": 2}
    Tally.objects.update(since=Now() - timedelta(days=39))
    assert outcomes() == before
    Tally.objects.update(since=Now() - timedelta(days=41))
    tallies.forget_old()
    Notification.objects.all().delete()
    assert outcomes() == before
    ask()
    jobs.serve("note")
    count()
    assert outcomes() == {**before, "accepted": 5}


def test_many_rows_are_counted_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "BATCH", 4)
    ask(count=10)
    jobs.serve("note")
    count()
    assert sum(told().values()) == 10
    assert outcomes() == {"accepted": 10}
    assert Watermark.objects.get(table="attempt").last_id == Attempt.objects.latest("pk").pk


def test_the_hour_that_comes_twice_is_counted_where_it_belongs() -> None:
    with override_settings(TIME_ZONE="Europe/Berlin"):
        ask(count=2)
        jobs.serve("note")
        tallies.count_new()
        at = [datetime(2025, 10, 26, hour, 30, tzinfo=UTC) for hour in (0, 1)]  # 02:30, twice
        for attempt, when in zip(Attempt.objects.all(), at, strict=True):
            Attempt.objects.filter(pk=attempt.pk).update(created_at=when)
        tallies.count_new()
        assert list(Tally.objects.order_by("since").values_list("since", flat=True)) == at


# -- statistics ---------------------------------------------------------------------------------


def test_queue_stats(script: Script) -> None:
    ask(count=2)
    ask(delay=3600)
    [flying] = ask()
    Notification.objects.filter(pk=flying.pk).update(
        token="00000000-0000-0000-0000-000000000001", due_at=Now() + timedelta(seconds=20)
    )
    Notification.objects.filter(due_at__lte=Now()).update(due_at=Now() - timedelta(seconds=90))
    stats = statistics.queue_stats("note")
    assert (stats.waiting, stats.active, stats.delayed, stats.dlq) == (2, 1, 1, 0)
    assert stats.oldest is not None
    assert 89 < stats.oldest < 95
    assert stats.paused == ""
    Notification.objects.all().delete()
    ask(count=3)
    jobs.serve("note")
    die(script)
    count()
    operations.pause("note", reason="the printer burns")
    stats = statistics.queue_stats("note")
    assert (stats.completed, stats.failed, stats.dlq, stats.waiting) == (3, 1, 1, 0)
    assert stats.paused == "the printer burns"
    assert set(stats.as_dict()) >= {
        "queue", "waiting", "active", "delayed", "completed", "failed", "dlq", "paused"
    }  # fmt: skip


def test_of_a_strange_queue_there_are_none() -> None:
    with pytest.raises(LookupError, match="pigeons"):
        statistics.queue_stats("pigeons")
    assert [each.queue for each in statistics.all_queue_stats()] == ["default", "note", "host"]


def fail_on_host(count: int) -> None:
    """Dead letters of so many jobs of the host's own."""
    for number in range(count):
        row = Task.objects.create(name=hostjobs.requeue_job.name, queue="default", state=State.DEAD)
        DeadLetter.objects.create(task=row, queue="host", name=f"shop.x{number % 2}", attempts=1)


@pytest.mark.usefixtures("staffed")
def test_failed_jobs_of_the_host_are_seen_everywhere(client: Client) -> None:
    fail_on_host(11)
    count()
    assert texts() == ["host: 11 failed jobs", "host: 11 dead letters wait for a person"]
    stats = statistics.queue_stats("host")
    assert (stats.failed, stats.dlq, stats.waiting, stats.ours) == (11, 11, 0, False)
    assert re.search(r"^host +\? +\? +\? +0 +11 +11$", run("notifications_stats"), re.MULTILINE)
    text = metrics.render().decode()
    assert 'notifications_dlq{queue="host"} 11.0\n' in text
    assert 'notifications_waiting{queue="host"}' not in text  # told by rq_jobs
    health.tell(health.examine())
    assert {alert.key for alert in Alert.objects.all()} == {"health host failed", "health host dlq"}
    page = viewer(is_superuser=True).get("/admin/notifications/overview/").content.decode()
    assert re.search(r"Dead letters</dt><dd><a [^>]+>11</a>", page)
    assert re.search(r"<a [^>]+queue=host[^>]*>11</a>", page)


def test_who_serves_the_hosts_own_queues_is_the_hosts_affair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "_served", lambda queues: set())
    assert [text for text in texts() if text.startswith(("host", "note"))] == [
        "note: no worker listens to it"
    ]


def topic(name: str) -> EventStats:
    return {each.topic: each for each in statistics.event_stats()}[name]


def test_event_stats() -> None:
    with transaction.atomic(), override_settings(RQ_QUEUES={}):
        publish("order.placed", order_id=0)
    assert topic("order.placed").waiting == 1
    assert topic("user.registered").waiting == 0
    jobs.serve("default")
    count()
    assert (topic("order.placed").waiting, topic("order.placed").completed) == (0, 1)
    assert topic("order.placed").as_dict()["topic"] == "order.placed"


@pytest.fixture
def odd() -> Iterator[None]:
    """A handler of two topics that does as the payload says."""

    def handle(fails: bool) -> None:
        if fails:
            raise ValueError("no")

    for name in ("test.first", "test.second"):
        on(name, name="test.handle", retry=RetryPolicy(retries=1, base=60.0))(handle)
    yield
    for name in ("test.first", "test.second"):
        events._handlers.pop(name)
    tasks._registry.pop("test.handle")


@pytest.mark.usefixtures("odd")
def test_a_handler_is_counted_wherever_it_stands() -> None:
    for fails in (True, False):
        with transaction.atomic():
            publish("test.first", fails=fails)
    Task.objects.create(
        name="x", queue="default", topic="test.first", token=uuid4(),
        due_at=Now() + timedelta(seconds=20),
    )  # fmt: skip
    assert (topic("test.first").waiting, topic("test.first").active) == (2, 1)
    jobs.serve("default")
    count()
    counts = {name: getattr(topic("test.first"), name) for name in statistics.COUNTS}
    assert counts == {
        "waiting": 0, "active": 1, "delayed": 1, "completed": 1, "failed": 0, "dlq": 0
    }  # fmt: skip
    Task.objects.filter(attempts=1, state=State.PENDING).update(due_at=Now())
    jobs.serve("default")
    count()
    counts = {name: getattr(topic("test.first"), name) for name in statistics.COUNTS}
    assert counts == {
        "waiting": 0, "active": 1, "delayed": 0, "completed": 1, "failed": 1, "dlq": 1
    }  # fmt: skip


@pytest.mark.usefixtures("odd")
def test_a_function_that_hears_two_topics_is_counted_for_each() -> None:
    for fails in (True, False):
        with transaction.atomic():
            publish("test.second", fails=fails)
    jobs.serve("default")
    Task.objects.filter(attempts=1, state=State.PENDING).update(due_at=Now())
    jobs.serve("default")
    count()
    second, first = topic("test.second"), topic("test.first")
    assert (second.completed, second.failed, second.dlq) == (1, 1, 1)
    assert (first.completed, first.failed, first.dlq) == (0, 0, 0)


def test_a_topic_is_counted_no_further_than_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MOST_OF_TOPIC", 2)
    for _each in range(3):
        Task.objects.create(name="x", queue="default", topic="order.placed")
    assert topic("order.placed").waiting == 2
    assert topic("order.placed").as_words()["waiting"] == "2+"
    QueueTally.objects.create(queue="note", what="dead", count=20_000, since=timezone.now())
    assert statistics.queue_stats("note").as_words()["failed"] == "20000"


def test_topics_are_told_in_few_queries_while_somebody_else_has_a_backlog(
    django_assert_max_num_queries: Any,
) -> None:
    Task.objects.bulk_create(Task(name="campaign", queue="default") for _each in range(3_000))
    with django_assert_max_num_queries(2):
        assert topic("order.placed").waiting == 0
    # Holds, messages, tasks, what happened, and dead letters of the host's own queue.
    with django_assert_max_num_queries(5):
        assert len(statistics.all_queue_stats()) == 3


@pytest.mark.postgres_only
def test_what_waits_is_counted_in_its_indexes() -> None:
    Task.objects.bulk_create(Task(name="campaign", queue="default") for _each in range(3_000))
    for ask_for, index, times in (
        (statistics.event_stats, "ntf_task_topic", 3),
        (lambda: statistics.queue_stats("default"), "ntf_task_claim", 16),
        (lambda: statistics.count_stalled(["default"]), "ntf_task_claim", 4),
    ):
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE notifications_task")
            with CaptureQueriesContext(connection) as queries:
                ask_for()
            [asked] = [each["sql"] for each in queries if "WITH asked" in each["sql"]]
            cursor.execute(f"EXPLAIN {asked}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert plan.count(index) == times, plan
        assert "Seq Scan on notifications_task" not in plan


def test_happened_tells_each_step(script: Script) -> None:
    ask(count=2)
    jobs.serve("note")
    count()
    [one] = statistics.happened(timedelta(days=1), TruncDay, queue="note")
    assert (one["queue"], one["what"], one["count"]) == ("note", "accepted", 2)
    assert statistics.happened(timedelta(days=1), TruncDay, what="dead") == []
    QueueTally.objects.create(
        queue="note", what="accepted", count=3, since=timezone.now() - timedelta(hours=1)
    )
    QueueTally.objects.create(
        queue="note", what="accepted", count=4, since=timezone.now() - timedelta(hours=25)
    )
    told = statistics.happened(timedelta(days=1), TruncHour)
    assert [each["count"] for each in told] == [3, 2]
    assert statistics.queue_stats("note").completed == 5


# -- health -------------------------------------------------------------------------------------


def texts() -> list[str]:
    return [reason.text for reason in health.examine().reasons]


@pytest.fixture
def staffed(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock and workers, as far as health can see."""
    health.beat("here:1", ["note"])
    monkeypatch.setattr(health, "_served", set)


@pytest.mark.usefixtures("staffed")
def test_when_all_is_well_there_is_nothing_to_say() -> None:
    found = health.examine()
    assert (found.level, list(found.reasons)) == (Level.HEALTHY, [])
    assert found.as_dict()["status"] == "healthy"


@pytest.mark.usefixtures("staffed")
def test_too_many_failed_and_waiting_are_told_in_words(script: Script) -> None:
    die(script, 11)
    count()
    assert texts() == ["note: 11 failed jobs", "note: 11 dead letters wait for a person"]
    DeadLetter.objects.all().delete()
    QueueTally.objects.all().delete()
    ask(count=101)
    assert texts() == ["note: 101 waiting jobs"]
    Notification.objects.filter(state=State.PENDING).update(due_at=Now() - timedelta(seconds=301))
    assert re.fullmatch(r"note: the oldest job waits for 30\d s", texts()[1])
    assert health.examine().level is Level.DEGRADED


@pytest.mark.usefixtures("staffed")
def test_thresholds_are_settings(settings: Any) -> None:
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "HEALTH": {"WAITING": 1}}
    ask(count=2)
    assert texts() == ["note: 2 waiting jobs"]


@pytest.mark.usefixtures("staffed")
def test_what_a_dead_worker_left_behind_is_told(settings: Any) -> None:
    rows = ask(count=4)
    left = Notification.objects.filter(pk__in=[row.pk for row in rows[:3]])
    left.update(token=uuid4(), started=True, due_at=Now() - timedelta(seconds=20))
    assert texts() == []  # the next clock takes them up
    left.update(due_at=Now() - timedelta(seconds=40))
    assert texts() == ["note: 3 stalled jobs: their worker died"]
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "HEALTH": {"STALLED": 3}}
    assert texts() == []


@pytest.mark.usefixtures("staffed")
def test_a_pause_and_a_provider_that_is_left_alone_are_told() -> None:
    operations.pause("note", reason="the printer burns")
    Hold.objects.create(scope="provider", name="first", cause="provider", reason="401 wrong key")
    holds.forget()
    ask(count=101)  # what waits under a pause is no news
    assert texts() == ["note: paused: the printer burns", "provider first: 401 wrong key"]


@pytest.mark.usefixtures("staffed")
@pytest.mark.parametrize(
    ("scope", "name", "cause", "told"),
    [
        ("template", "note/test_note", "provider", []),
        ("kind", "test_note", "person", []),
        ("provider", "first", "person", []),
        ("provider", "first", "outage", ["provider first: wet"]),  # half open: one may try it
    ],
)
def test_a_hold_whose_time_is_over_is_no_trouble_any_more(
    scope: str, name: str, cause: str, told: list[str]
) -> None:
    holds.hold(scope, name, reason="wet", cause=cause, seconds=60)
    assert texts()
    Hold.objects.update(until=Now() - timedelta(days=3))
    holds.forget()
    assert texts() == told
    assert len(queues.look_at("note").holds) == len(told)


def test_without_clock_and_workers_it_is_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_served", lambda queues: set())
    ask()
    found = health.examine()
    assert found.level is Level.FAILING
    assert any("no clock was seen for 30 s" in text for text in texts())
    assert "note: no worker listens to it" in texts()


def test_a_clock_that_was_not_seen_lately_is_none() -> None:
    health.beat("here:1", ["note"])
    assert not any("no clock" in text for text in texts())
    Heartbeat.objects.update(seen_at=Now() - timedelta(seconds=31))
    assert any("no clock" in text for text in texts())
    health.beat("here:1", ["note"])
    assert not any("no clock" in text for text in texts())
    Heartbeat.objects.update(seen_at=Now() - timedelta(days=2))
    health.beat("here:2", ["note"])
    assert [name for name, *_rest in health.clocks()] == ["here:2"]


def test_workers_are_those_whose_keys_live(redis: Redis, settings: Any) -> None:
    settings.RQ_QUEUES = {"note": {"URL": os.environ["REDIS_URL"]}}
    redis.sadd("rq:workers", "rq:worker:alive", "rq:worker:dead")
    assert health._served(["note"]) == set()
    redis.hset("rq:worker:alive", "queues", "other,note")
    assert health._served(["note"]) == {"note"}
    redis.delete("rq:workers")
    assert health._served(["note"]) == set()


def test_a_lost_redis_is_told(redis_server: RedisServer) -> None:
    health.beat("here:1", ["note"])
    redis_server.stop()
    assert any("Redis does not answer" in text for text in texts())


def test_a_copied_database_is_failing(settings: Any) -> None:
    holds.stamp()
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ENVIRONMENT": "another"}
    holds.forget()
    found = health.examine()
    assert found.level is Level.FAILING
    assert "everything is held" in found.reasons[0].text


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])  # of psycopg2: a closed one
def test_a_lost_database_is_failing(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    def fail() -> None:
        raise error("gone")

    monkeypatch.setattr(holds, "current", fail)
    found = health.examine()
    assert [reason.text for reason in found.reasons] == [
        f"the database does not answer: {error.__name__}"
    ]
    monkeypatch.setattr(connection, "cursor", fail)
    assert client.get("/notifications/health/ready/").status_code == 503
    health.tell(found)  # nobody to tell it to, and nothing raised


def test_the_administrators_are_told_once_an_hour(script: Script) -> None:
    reason = health.Reason(Level.DEGRADED, "note failed", "note: 150 failed jobs")
    for _ in range(3):
        health.tell(health.Health([reason]))
    row = Alert.objects.get()
    assert (row.key, row.subject) == ("health note failed", "health: note: 150 failed jobs")


def test_a_clock_does_its_chores_when_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    done: list[str] = []
    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr(health, "examine", lambda: done.append("look") or health.Health())
    monkeypatch.setattr(tallies, "count_new", lambda: done.append("count"))
    monkeypatch.setattr(hostjobs, "find", lambda: done.append("find"))
    monkeypatch.setattr(reporting.Reporter, "report", lambda _self, _queues: done.append("report"))
    chores = clock.chores(["note"])

    def at(seconds: float) -> list[str]:
        nonlocal now
        now = 100.0 + seconds
        done.clear()
        for chore in chores:
            chore.step()
        return done

    assert at(0) == ["count", "find", "report"]
    assert Heartbeat.objects.get().queues == ["note"]
    assert at(9) == []
    assert at(10) == ["count"]
    assert at(30) == ["count", "report"]
    assert at(60) == ["look", "count", "report"]
    assert at(120) == ["look", "count", "find", "report"]
    with scripted(_REPORT=0):
        assert len(clock.chores(["note"])) == len(chores) - 1


# -- over HTTP ----------------------------------------------------------------------------------


def viewer(*, is_superuser: bool) -> Client:
    client = Client()
    with muted():
        user = User.objects.create_user("v", is_staff=True, is_superuser=is_superuser)
    client.force_login(user)
    return client


def test_live_and_ready_are_for_everybody(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get("/notifications/health/live/").json() == {"status": "live"}
    assert client.get("/notifications/health/ready/").json() == {"status": "ready"}
    assert client.post("/notifications/health/live/").status_code == 405
    monkeypatch.setattr(health, "is_ready", lambda: False)
    assert client.get("/notifications/health/ready/").status_code == 503


@pytest.mark.usefixtures("staffed")
def test_reasons_are_for_staff(client: Client) -> None:
    operations.pause("note", reason="the printer burns")
    assert client.get("/notifications/health/").json() == {"status": "ok"}
    assert viewer(is_superuser=True).get("/notifications/health/").json()["reasons"] == [
        "note: paused: the printer burns"
    ]
    User.objects.all().delete()
    assert viewer(is_superuser=False).get("/notifications/health/").json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/notifications/health/", "/api/health/"])
def test_a_failing_whole_is_503(client: Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (503, {"status": "fail"})


@pytest.mark.parametrize("path", ["/notifications/health/", "/api/health/"])
def test_strangers_cost_nothing_and_are_told_when_to_come_again(
    client: Client, path: str, settings: Any
) -> None:
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "HEALTH": {"RATE": "5/m"}}
    client.get(path)
    with CaptureQueriesContext(connection) as queries:
        answers = [client.get(path) for _each in range(6)]
    assert len(queries) == 0
    assert [each.status_code for each in answers] == [503] * 4 + [429] * 2
    assert 0 < int(answers[-1]["Retry-After"]) <= 60
    assert client.get(path, headers={"X-Forwarded-For": "10.0.0.1, 192.0.2.7"}).status_code == 503
    assert client.get(path, headers={"X-Forwarded-For": "spoofed, 127.0.0.1"}).status_code == 429
    assert client.get("/notifications/health/ready/").status_code == 200
    assert viewer(is_superuser=True).get(path).status_code == 503
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "HEALTH": {"RATE": ""}}
    assert client.get(path).status_code == 503


def test_strangers_come_again_after_a_while_and_take_no_memory(
    rf: RequestFactory, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "HEALTH": {"RATE": "2/m"}}
    monkeypatch.setattr(turnstile, "MOST", 3)
    gate = turnstile.Turnstile("RATE")

    def waits(number: int) -> float:
        return gate.wait(rf.get("/", REMOTE_ADDR=f"192.0.2.{number}"))

    assert [waits(1) for _each in range(3)] == [0, 0, 60]
    assert [waits(number) for number in range(2, 8)] == [0, 0, 0, 0, 60, 60]
    assert len(gate._counts) <= 4
    now += 60
    assert waits(1) == 0


@pytest.mark.usefixtures("staffed")
def test_health_is_looked_at_anew_after_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert health.glance().level is Level.HEALTHY
    operations.pause("note")
    assert health.glance().level is Level.HEALTHY
    assert health.examine().level is Level.DEGRADED
    monkeypatch.setattr(health, "FRESH", 0.0)
    assert health.glance().level is Level.DEGRADED


def test_a_session_in_a_lost_database_is_no_bug_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    client = viewer(is_superuser=True)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(connection, "cursor", fail)
    answer = client.get("/notifications/health/")
    assert (answer.status_code, answer.json()) == (503, {"status": "fail"})


@pytest.mark.parametrize("given", ["", "Bearer wrong", "Bearer ", "Basic right"])
@pytest.mark.parametrize("token", ["", "right"])
def test_metrics_ask_for_the_token(client: Client, settings: Any, given: str, token: str) -> None:
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "METRICS_TOKEN": token}
    answer = client.get("/notifications/metrics/", headers={"Authorization": given})
    assert answer.status_code == 401


def test_metrics_tell_depth_outcomes_and_health(
    client: Client, settings: Any, script: Script
) -> None:
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "METRICS_TOKEN": "right"}
    die(script)
    ask(count=2)
    jobs.serve("note")
    count()
    ask(count=3)
    answer = client.get("/notifications/metrics/", headers={"Authorization": "Bearer right"})
    assert answer["Content-Type"].startswith("text/plain; version=0.0.4")
    text = answer.content.decode()
    assert 'notifications_waiting{queue="note"} 3.0\n' in text
    assert 'notifications_dlq{queue="note"} 1.0\n' in text
    assert (
        'notifications_outcomes_total{kind="test_note",outcome="accepted",provider="first",'
        'queue="note"} 2.0\n'
    ) in text
    assert 'notifications_health{status="failing"} 1.0\n' in text
    assert "notifications_redis_up 0.0\n" in text
    assert "rq_jobs" not in text
    families = list(text_string_to_metric_families(text))
    assert len(families) == len({each.name for each in families}) >= 10


def test_metrics_of_rq_stand_beside_ours(
    settings: Any, redis_server: RedisServer, redis: Redis
) -> None:
    settings.RQ_QUEUES = {"default": {"URL": redis_server.url}, "note": {"URL": redis_server.url}}
    django_rq.get_queue("default").enqueue(print)
    text = metrics.render().decode()
    assert "notifications_redis_up 1.0\n" in text
    assert 'rq_jobs{queue="default",status="queued"} 1.0\n' in text


# -- commands -----------------------------------------------------------------------------------


def run(*words: str) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def test_stats_are_shown_and_told_as_json(script: Script) -> None:
    ask(count=2)
    text = run("notifications_stats")
    assert re.search(
        r"^queue +waiting +active +delayed +completed +failed +dlq +paused$", text, re.MULTILINE
    )
    assert re.search(r"^note +2 +0 +0 +0 +0 +0$", text, re.MULTILINE)
    assert re.search(r"^order.placed +0 +0 +0 +0 +0 +0$", text, re.MULTILINE)
    facts = json.loads(run("notifications_stats", "--json"))
    assert {each["queue"]: each["waiting"] for each in facts["queues"]}["note"] == 2


def test_stats_are_shown_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from notifications.management.commands import notifications_stats

    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(notifications_stats.time, "sleep", wait)
    assert run("notifications_stats", "--watch", "30").count("queue ") == 3
    assert waits == [30.0] * 3


@pytest.mark.usefixtures("staffed")
def test_the_health_command_and_its_exit_code() -> None:
    assert run("notifications_health").strip() == "healthy"
    operations.pause("note")
    assert json.loads(run("notifications_health", "--lenient", "--json"))["status"] == "degraded"
    with pytest.raises(CommandError, match="degraded") as raised:
        run("notifications_health")
    assert raised.value.returncode == 1
    Heartbeat.objects.all().delete()
    with pytest.raises(CommandError, match="failing"):
        run("notifications_health", "--lenient")


def test_dead_letters_are_listed_one_by_one_and_by_group(script: Script) -> None:
    assert "There are no dead letters." in run("notifications_dead")
    die(script, 3)
    assert run("notifications_dead").count("test_note") == 3
    [line] = run("notifications_dead", "--group").splitlines()
    fingerprint = DeadLetter.objects.first().fingerprint
    assert line.startswith(f"{fingerprint}       3  test_note")
    [group] = json.loads(run("notifications_dead", "--group", "--json"))["results"]
    assert group["count"] == 3
    assert run("notifications_dead", "--group", fingerprint).count("550 no such user") == 3
    assert "There are no dead letters." in run("notifications_dead", "--group", "another")
    assert len(json.loads(run("notifications_dead", "--json", "--limit", "2"))["results"]) == 2


def test_filters_choose_dead_letters(script: Script) -> None:
    die(script, 2)
    letter = DeadLetter.objects.order_by("pk").first()
    code = letter.code or letter.error

    def found(*words: str) -> int:
        return len(json.loads(run("notifications_dead", "--json", *words))["results"])

    assert found("--queue", "note", "--kind", "test_note", "--error", code) == 2
    assert found("--queue", "default") == found("--error", "none") == found("--kind", "x") == 0
    assert found("--group", letter.fingerprint, "--since", "1h") == 2
    DeadLetter.objects.filter(pk=letter.pk).update(created_at=Now() - timedelta(hours=2))
    assert found("--since", "1h") == 1
    with pytest.raises(CommandError):
        found("--since", "soon")
    with pytest.raises(CommandError):
        found("--queue", "pigeons")


def test_chosen_dead_letters_are_retried(script: Script) -> None:
    die(script, 3)
    script.answer("dead@example.com", ACCEPTED)
    first, second, third = DeadLetter.objects.order_by("pk").values_list("pk", flat=True)
    facts = json.loads(run("notifications_retry", str(first), "--json", "--dry-run"))
    assert facts == {"matched": 1, "retried": 0, "dry_run": True}
    assert "1 retried." in run("notifications_retry", str(first))
    words = ("--all", "--limit", "1", "--rate", "100/s", "--no-input")
    assert "1 retried." in run("notifications_retry", *words)
    assert list(DeadLetter.objects.values_list("pk", flat=True)) == [third]
    jobs.serve("note")
    assert Notification.objects.filter(state=State.SENT).count() == 2
    assert second


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Name dead letters"),
        (["1", "--all"], "Name dead letters"),
        (["999999"], "No such dead letter"),
        (["--all", "--limit", "0"], "--limit"),
        (["--all", "--rate", "fast"], "no rate"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said) as raised:
        run("notifications_retry", *words)
    assert raised.value.returncode == 2


def test_all_dead_letters_are_not_touched_without_a_yes(script: Script) -> None:
    die(script)
    for command in ("notifications_retry", "notifications_discard"):
        with pytest.raises(CommandError, match="no terminal"):
            run(command, "--all")
    assert DeadLetter.objects.count() == 1
    assert "1 would be discarded." in run("notifications_discard", "--all", "--dry-run")
    assert "1 discarded." in run("notifications_discard", "--all", "--no-input")
    assert not DeadLetter.objects.exists()
    assert Notification.objects.get().state == State.DEAD


def test_a_kind_is_previewed(settings: Any) -> None:
    settings.NOTIFICATIONS = {"CHANNELS": {"email": {}, "in_app": {}, "sms": {}}}
    text = run("notifications_preview", "order_confirmation")
    assert text.startswith("Subject: We have your order 7K2M-Q9XA\n\n")
    assert "<html" in run("notifications_preview", "order_confirmation", "--html")
    german = run("notifications_preview", "order_confirmation", "--channel", "in_app",
                 "--language", "de")  # fmt: skip
    assert german.startswith("Wir haben Ihre Bestellung")
    assert "Leaf & Kettle" in run("notifications_preview", "payment_receipt", "--channel", "sms")
    facts = json.loads(run("notifications_preview", "order_confirmation", "--json"))
    assert (facts["kind"], facts["channel"]) == ("order_confirmation", "email")
    assert facts["message"]["subject"] == "We have your order 7K2M-Q9XA"
    assert "<html" in facts["message"]["html"]
    facts = json.loads(
        run("notifications_preview", "payment_receipt", "--channel", "sms", "--json")
    )
    assert "Leaf & Kettle" in facts["message"]["text"]
    with pytest.raises(CommandError, match="no such"):
        run("notifications_preview", "no such")
    with pytest.raises(CommandError, match="cannot be made"):
        run("notifications_preview", "welcome", "--channel", "sms")


# -- a worker's own -----------------------------------------------------------------------------


def ask_vitals(port: int) -> tuple[int, list[str]]:
    """Status and reasons; 0 if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status, json.load(answer)["reasons"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["reasons"]
    except OSError:
        return 0, []


def test_a_worker_tells_its_health_until_a_moment_after_its_death(
    redis: Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    port = find_free_port()
    environment = {
        **os.environ, "WORKER_HEALTH_CHECK_PORT": str(port),
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, "manage.py", "rqworker"],
            cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: ask_vitals(port) == (200, []), seconds=30)
        redis_server.stop()
        wait_until(lambda: ask_vitals(port)[0] == 503, seconds=20)
        assert "Redis does not answer" in ask_vitals(port)[1][0]
        redis_server.start()
        wait_until(lambda: ask_vitals(port) == (200, []), seconds=20)
        worker.kill()
        worker.wait()
        wait_until(lambda: ask_vitals(port) == (503, ["the worker is dead"]), seconds=20)
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def test_a_worker_that_is_stopped_takes_its_server_along(redis: Redis, tmp_path: Path) -> None:
    port = find_free_port()
    environment = {**os.environ, "WORKER_HEALTH_CHECK_PORT": str(port),
                   "DJANGO_SETTINGS_MODULE": "config.settings"}  # fmt: skip
    worker = subprocess.Popen(
        [sys.executable, "manage.py", "rqworker"], cwd=ROOT, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(lambda: ask_vitals(port)[0] == 200, seconds=30)
        worker.terminate()
        worker.wait(20)
        assert ask_vitals(port)[0] == 0
    finally:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)


def test_vitals_tell_what_is_wrong(
    redis: Redis, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.RQ_QUEUES = {"default": {"URL": os.environ["REDIS_URL"]}}
    seen = vitals.Vitals(os.getppid(), ["default"])
    monkeypatch.setattr(vitals.connections, "close_all", lambda: None)
    seen.look()
    assert seen.reasons() == []
    monkeypatch.setattr(health, "is_ready", lambda: False)
    seen.look()
    assert seen.reasons() == ["the database does not answer"]
    seen._looked -= 60
    assert seen.reasons() == ["Redis or the database hangs"]
    assert vitals.Vitals(1_000_000, ["default"]).reasons() == ["the worker is dead"]


def test_vitals_end_a_moment_after_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals, "LINGER", 0.2)
    began = time.monotonic()
    vitals.Vitals(1_000_000, ["default"]).watch()
    assert 0.2 <= time.monotonic() - began < 5


def test_a_server_of_vitals_answers_and_minds_a_taken_port(redis: Redis) -> None:
    port = find_free_port()
    server = vitals.serve(vitals.Vitals(os.getppid(), ["default"]), port)
    assert ask_vitals(port) == (200, [])
    server.shutdown()
    server.server_close()
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            vitals.serve(vitals.Vitals(os.getppid(), []), taken.getsockname()[1])


@pytest.mark.parametrize("port", ["", "http", "0", "70000"])
def test_without_a_port_there_is_no_server(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_HEALTH_CHECK_PORT", port)
    process = vitals.VitalsProcess(["default"])
    process.start()
    assert process.pid == 0
    process.stop()


def test_tasks_have_statistics_too() -> None:
    Task.objects.create(name="x", queue="default")
    assert statistics.queue_stats("default").waiting == 1
