"""A queue with a million rows is emptied in the background, while messages go on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import psutil
import psycopg
import pytest

from tests.faults.world import ROOT, World

ROWS = int(os.environ.get("ROWS", "1000000"))
MEMORY = 100 * 2**20  # bytes that a worker may need on top
LATE = 1.0  # seconds a message may take meanwhile

WAITING = """
INSERT INTO notifications_notification
    (queue, state, priority, lapses, attempts, started, about_type, about_id, trace, reason,
     kind, channel, "to", language, context, created_at, due_at, wanted_at)
SELECT 'email', 'pending', 3, 0, 0, false, '', '', '', '', 'welcome', 'email',
       'user' || i || '@example.com', 'en', '{}', now(), now() + interval '1 day', now()
FROM generate_series(1, %s) i
"""
EMPTY = """
from notifications import bulk
bulk.start(bulk.Verb.EMPTY, bulk.freeze_queue("email"))
"""
SENDER = """
import sys
from django.db import transaction
from notifications.dispatch import send_email
for line in sys.stdin:
    with transaction.atomic():
        [row] = send_email(to="now@example.com", subject="Now", text="Now", priority=0)
    print(row.pk, flush=True)
"""


@pytest.mark.faults
@pytest.mark.postgres_only
def test_emptying_a_million_rows_neither_blocks_nor_swells(world: World) -> None:
    with psycopg.connect(world.database.url, autocommit=True) as server:
        server.execute(WAITING, [ROWS])
        server.execute("ANALYZE notifications_notification")
    workers = [world.worker(), world.worker()]
    sender = subprocess.Popen(
        [sys.executable, "manage.py", "shell", "-v0", "-c", SENDER],
        cwd=ROOT, env=world.environment, text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with sender:
        assert sender.stdin
        assert sender.stdout
        asks, answers = sender.stdin, sender.stdout

        def send() -> float:
            """Send one message; the seconds until it has arrived."""
            began = time.monotonic()
            asks.write("send\n")
            row = int(answers.readline())
            world.wait(lambda: row in world.inbox.times)
            return world.inbox.times[row] - began

        world.wait(lambda: send() < LATE)
        before = memory_of(workers)
        world.manage("shell", "-v0", "-c", EMPTY)
        began = time.monotonic()
        waits, most = [], 0
        while world.count("notifications_task WHERE state = 'pending'"):
            waits.append(send())
            most = max(most, memory_of(workers))
            assert time.monotonic() - began < 600
            time.sleep(0.2)
    took = time.monotonic() - began
    cancelled = world.count("notifications_notification WHERE state = 'cancelled'")
    print(
        f"\n{cancelled} rows in {took:.0f} s; {len(waits)} messages meanwhile, "
        f"{sorted(waits)[len(waits) // 2] * 1000:.0f} ms each, at most {max(waits) * 1000:.0f} ms; "
        f"{(most - before) / 2**20:+.0f} MB"
    )
    assert cancelled == ROWS
    assert max(waits) < LATE
    assert most - before < MEMORY


def memory_of(workers: list[Any]) -> int:
    """What the workers and their children hold of their own, in bytes."""
    total = 0
    for worker in workers:
        parent = psutil.Process(worker.pid)
        for each in [parent, *parent.children(recursive=True)]:
            try:
                total += each.memory_full_info().uss
            except psutil.NoSuchProcess:
                continue
    return total
