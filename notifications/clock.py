"""The clock: looks at the database now and then, rings queues with due rows, starts schedules.

It is what makes rings expendable. Any number may run, on any machine, with any local time: what
is due is the database's business, and a schedule's slot is won by one of them.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence

from django.db import Error as DatabaseError
from django.db import close_old_connections, connections
from redis.exceptions import RedisError

from notifications import conf, outbox, rings, tasks
from notifications.connections import quick_redis

logger = logging.getLogger("notifications.clock")

LONGEST_PAUSE = 5.0  # seconds between tries while the database or Redis is away


def run(queues: Sequence[str], *, stopping: Callable[[], bool]) -> None:
    """Tick until `stopping()`; never raises for a lost database or Redis."""
    pause = period = float(conf.get("CLOCK"))
    while not stopping():
        try:
            close_old_connections()
            tick(queues)
            pause = period
        except (DatabaseError, RedisError, OSError) as error:
            logger.warning("the clock cannot tick: %s", type(error).__name__)
            connections.close_all()
            pause = min(pause * 2, LONGEST_PAUSE)
        except Exception:
            logger.exception("the clock cannot tick")
            pause = LONGEST_PAUSE
        # A little apart, so that many clocks do not march in step.
        _sleep(pause * random.uniform(0.8, 1.0), stopping)


def tick(queues: Sequence[str]) -> list[str]:
    """Start due schedules and ring the queues that have due rows; those that were rung."""
    tasks.tick_schedules()
    due = outbox.due_queues(queues)
    for queue in due:
        rings.ring_now(queue, quick_redis(queue))
    return due


def own_queues() -> list[str]:
    """The queues of RQ_QUEUES that are this app's."""
    return [name for name in conf.queue_names() if conf.owns_queue(name)]


def _sleep(seconds: float, stopping: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not stopping() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.5))
