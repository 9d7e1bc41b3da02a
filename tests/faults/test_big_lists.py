"""With millions of rows every page of the admin and of the API answers at once (PostgreSQL)."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import override_settings

pytestmark = [
    pytest.mark.postgres_only,
    pytest.mark.timeout(3600),
    pytest.mark.django_db(transaction=True),
]

FEW, MANY = 10_000, 5_000_000  # rows: the few only show that everything answers
PATIENCE, AT_ONCE = 30.0, 0.3  # seconds

MESSAGES = """
INSERT INTO notifications_notification
    (queue, state, priority, lapses, attempts, started, about_type, about_id, trace, reason,
     kind, channel, "to", language, context, created_at, due_at, wanted_at, settled_at)
SELECT channel,
       CASE WHEN i %% 100 = 0 THEN 'pending' WHEN i %% 200 = 1 THEN 'dead'
            WHEN i %% 200 = 3 THEN 'cancelled' WHEN i %% 50 = 7 THEN 'delivered' ELSE 'sent' END,
       i %% 4, 0, CASE WHEN i %% 100 = 0 AND i %% 1000 > 0 THEN 0 ELSE 1 END, false,
       'orders.order', i::text, '', '',
       CASE WHEN i < 500 THEN 'welcome' ELSE 'test_note' END,
       channel, 'user' || i || '@example.com', 'en', '{}', at, at, at,
       CASE WHEN i %% 100 = 0 THEN NULL ELSE at END
FROM (SELECT i, now() - (%(rows)s - i) * interval '0.5 s' AS at,
             (ARRAY['note', 'note', 'note', 'sms', 'push', 'whatsapp'])[1 + i / 10 %% 6] AS channel
      FROM generate_series(1, %(rows)s) i) AS made
"""
ATTEMPTS = """
INSERT INTO notifications_attempt
    (notification_id, number, provider, outcome, code, text, message_id, mark, theirs,
     milliseconds, created_at)
SELECT id, 1, 'first', CASE state WHEN 'dead' THEN 'permanent' ELSE 'accepted' END, '250', '',
       '<' || id || '@example.com>', '', false, 12, created_at
FROM notifications_notification WHERE state <> 'pending'
"""
LETTERS = """
INSERT INTO notifications_deadletter
    (notification_id, queue, name, topic, error, code, reason, traceback, attempts, fingerprint,
     created_at)
SELECT id, queue, kind, '', '', '55' || id %% 7, '550 no such user', '', 1, 'f' || id %% 7,
       created_at
FROM notifications_notification WHERE state = 'dead'
"""
TASKS = """
INSERT INTO notifications_task
    (queue, state, priority, lapses, attempts, started, about_type, about_id, trace, reason,
     name, topic, payload, progress, event_id, created_at, due_at, wanted_at)
SELECT 'default', 'done', 2, 0, 1, false, '', '', '', '',
       'orders.notifications.confirm_order',
       'order.placed', '{}', 0, gen_random_uuid(), created_at, created_at, created_at
FROM notifications_notification WHERE id %% 5 = 0
"""
# A campaign that waits before everything else, and the handlers of TOPICS topics.
WAITING = """
INSERT INTO notifications_task
    (queue, state, priority, lapses, attempts, started, about_type, about_id, trace, reason,
     name, topic, payload, progress, event_id, created_at, due_at, wanted_at)
SELECT 'default', 'pending', 2, 0, 0, false, '', '', '', '', 'shop.campaign', '', '{}'::jsonb, 0,
       NULL::uuid, now(), now() - interval '1 hour', now()
FROM generate_series(1, 300000)
UNION ALL
SELECT 'default', 'pending', 2, 0, i %% 2, false, '', '', '', '', 'big.handle',
       'big.topic' || i %% 50, '{}'::jsonb, 0, gen_random_uuid(), now(),
       now() + (i - 25000) * interval '1 s', now()
FROM generate_series(1, 50000) AS i
"""
# Each quarter of an hour of 39 days, as the clock would have added them up.
TALLIES = """
INSERT INTO notifications_tally
    (since, queue, topic, name, provider, what, count, milliseconds)
SELECT since, queue, topic, name, provider, what, 3, 300
FROM generate_series(0, 39 * 96 - 1) AS step,
     LATERAL (SELECT date_trunc('hour', now()) - step * interval '15 min' AS since) AS at,
     (SELECT (ARRAY['note', 'sms', 'push', 'whatsapp'])[1 + kind %% 4] AS queue, '' AS topic,
             'kind' || kind AS name, provider, what
      FROM generate_series(1, 20) AS kind,
           (VALUES ('first', 'accepted'), ('first', 'later'), ('', 'dead')) AS told (provider, what)
      UNION ALL
      SELECT 'default', 'big.topic' || topic, 'big.handle', '', what
      FROM generate_series(0, 49) AS topic, (VALUES ('done'), ('dead')) AS told (what)
      WHERE topic < 10) AS kinds
"""
OF_QUEUES = """
INSERT INTO notifications_queuetally (since, queue, what, count, milliseconds)
SELECT since, queue, what, sum(count), sum(milliseconds)
FROM notifications_tally GROUP BY since, queue, what
"""
TOTALS = """
INSERT INTO notifications_total (queue, name, provider, what, count, milliseconds)
SELECT queue, name, provider, what, sum(count), sum(milliseconds)
FROM notifications_tally GROUP BY queue, name, provider, what
"""

CHANNELS = ("note", "sms", "push", "whatsapp")
TOPICS = 50


API = (
    "dashboard/", "events/", "queues/", "queues/note/", "health/",
    *(f"stats/?window={name}" for name in ("1h", "24h", "7d", "30d")),
    *(f"queues/note/jobs/?state={name}"
      for name in ("waiting", "active", "delayed", "completed", "failed")),
    "notifications/", "notifications/?kind=welcome", "notifications/?state=cancelled&limit=200",
    "notifications/?state=dead", "notifications/?key=nothing",
    "tasks/", "tasks/?topic=order.placed", "tasks/?state=dead",
    "dead-letters/", "dead-letters/?code=553", "dead-letters/groups/",
)  # fmt: skip


@pytest.fixture
def script() -> Iterator[Any]:
    # Imported late: pytest reads this file before Django has its settings.
    scripted, events = import_module("tests.scripted"), import_module("notifications.events")
    note = scripted.SETTINGS["CHANNELS"]["note"]
    channels = {name: {**note, "QUEUE": name} for name in CHANNELS}
    names = (*CHANNELS, "default", "documents", "host", "reports")
    queues = {name: {"URL": "redis://127.0.0.1:1/0"} for name in names}
    topics = [f"big.topic{number}" for number in range(TOPICS)]
    for topic in topics:
        events.on(topic, name="big.handle")(print)
    with scripted.scripted(_CHANNELS=channels) as running, override_settings(RQ_QUEUES=queues):
        yield running
    for topic in topics:
        events._handlers.pop(topic)
    import_module("notifications.tasks")._registry.pop("big.handle")


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [(FEW, PATIENCE), pytest.param(MANY, AT_ONCE, marks=pytest.mark.faults)],
    ids=["few", "many"],
)
def test_every_page_answers_at_once(
    rows: int, seconds: float, script: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    screens = import_module("tests.admin.screens")
    with connection.cursor() as cursor:
        cursor.execute(MESSAGES, {"rows": rows})
        for sql in (ATTEMPTS, LETTERS, TASKS, WAITING, TALLIES, OF_QUEUES, TOTALS):
            cursor.execute(sql.replace("%%", "%"))
        cursor.execute("ANALYZE")
        cursor.execute("SELECT max(id) FROM notifications_notification")
        newest = cursor.fetchone()[0]
    client = screens.boss()
    messages, letters = screens.list_of("notification"), screens.list_of("deadletter")
    addresses = [
        messages,
        f"{messages}?p=150",
        *(f"{messages}?standing={name}" for name in ("waiting", "retrying", "sent", "failed",
                                                     "unknown", "withdrawn")),
        f"{messages}?kind=welcome",
        f"{messages}?kind=test_note&standing=failed",
        f"{messages}?channel=note&priority=0",
        f"{messages}?state=cancelled",
        f"{messages}?q=USER{rows // 2}@example.com",
        f"{messages}?q={newest - 5}@example.com",
        f"{messages}?q={rows // 3}",
        f"{messages}?q=nothing",
        screens.url("notification", "change", newest),
        letters,
        f"{letters}?code=553",
        f"{letters}?q=user201@example.com",
        screens.url("deadletter", "groups"),
        f"{screens.url('deadletter', 'many')}?verb=retry&fingerprint=f3",
        screens.list_of("task"),
        f"{screens.list_of('task')}?topic=order.placed",
        f"{screens.list_of('task')}?q=orders.notifications.confirm_order",
        screens.list_of("queue"),
        screens.url("queue", "one", "note"),
        screens.list_of("event"),
        *(f"{screens.list_of('overview')}?window={name}" for name in ("1h", "24h", "7d", "30d")),
        *(f"/api/{path}" for path in API),
        f"/api/notifications/?to=USER{rows // 2}@example.com",
        f"/api/notifications/?about=orders.order:{rows // 3}",
        f"/api/notifications/{newest}/timeline/",
    ]  # fmt: skip
    health, metrics = (import_module(f"notifications.{name}") for name in ("health", "metrics"))
    statistics = import_module("notifications.statistics")
    asked: dict[str, Callable[[], object]] = {
        **{address: partial(_get, client, address) for address in addresses},
        "metrics": metrics.render,
        "health": health.examine,
        "queue_stats": partial(statistics.queue_stats, "note"),
        "event_stats": statistics.event_stats,
        "notifications_stats": partial(call_command, "notifications_stats", stdout=io.StringIO()),
        "notifications_dead": partial(
            call_command, "notifications_dead", "--group", stdout=io.StringIO()
        ),
    }
    slow = []
    for name, ask in asked.items():
        took = min(_time(ask) for _each in range(3))
        with capsys.disabled():
            print(f"{took * 1000:7.0f} ms  {name}")
        if took > seconds:
            slow.append((name, took))
    assert slow == []


def _get(client: Any, address: str) -> None:
    answer = client.get(address)
    # health/ answers 503 here, where no clock and no Redis is.
    assert answer.status_code == 200 or address == "/api/health/", answer.content


def _time(ask: Callable[[], object]) -> float:
    began = time.monotonic()
    ask()
    return time.monotonic() - began
