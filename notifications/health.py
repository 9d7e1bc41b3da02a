"""Is it well, and if not, what is wrong: in words, for a person at three in the morning.

    healthy    nothing to say
    degraded   messages still go out, but somebody should look
    failing    messages do not go out

Thresholds are NOTIFICATIONS["HEALTH"].
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.db import Error as DatabaseError
from django.db import connections, router
from django.db.models.functions import Now
from redis.exceptions import RedisError
from rq.utils import as_text
from rq.worker_registration import REDIS_WORKER_KEYS

from notifications import alerts, conf, holds, statistics
from notifications.connections import group_by_redis
from notifications.models import Heartbeat, Hold, Notification
from notifications.redaction import describe, safe_traceback
from notifications.statistics import QueueStats, say

logger = logging.getLogger("notifications.health")

FRESH = 2.0  # seconds a process goes on telling what it saw
BEAT = 10.0  # seconds between two heartbeats of a clock
LOOK = 60.0  # seconds between two looks of a clock at the whole


class Level(StrEnum):
    """How bad it is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is wrong."""

    level: Level
    key: str  # the same for the same trouble: "email failed"
    text: str  # "email: 150 failed jobs"


@dataclass(frozen=True, slots=True)
class Health:
    """How the whole is."""

    reasons: Sequence[Reason] = ()
    queues: Sequence[QueueStats] = ()

    @property
    def level(self) -> Level:
        """The worst of the reasons."""
        levels = {reason.level for reason in self.reasons}
        if Level.FAILING in levels:
            return Level.FAILING
        return Level.DEGRADED if levels else Level.HEALTHY

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "status": str(self.level),
            "reasons": [reason.text for reason in self.reasons],
            "queues": [each.as_dict() for each in self.queues],
        }

    def for_strangers(self) -> dict[str, str]:
        """For JSON that anybody may read: whether messages go out, and nothing more."""
        return {"status": "fail" if self.level is Level.FAILING else "ok"}


def examine() -> Health:
    """How it is now. Never raises; asks the database and Redis, each with a timeout."""
    try:
        if foreign := holds.current().everything:
            return Health([Reason(Level.FAILING, "held", f"everything is held: {foreign}")])
        queues = statistics.all_queue_stats()
        reasons = [*_of_queues(queues), *_of_holds(), *_of_clocks(), *_of_workers(queues)]
    except DatabaseError as error:
        gone = f"the database does not answer: {type(error).__name__}"
        return Health([Reason(Level.FAILING, "database", gone)])
    except Exception as error:  # wrong settings, say; whoever asks needs an answer
        logger.error("health cannot be told: %s", safe_traceback(error))
        text = f"health cannot be told: {describe(error)} (manage.py check)"
        return Health([Reason(Level.FAILING, "health", text)])
    return Health(reasons, queues)


def glance() -> Health:
    """How it was, at most FRESH seconds ago: for whoever may ask as often as they like."""
    global _seen
    with _looking:  # who comes meanwhile waits for this look, and has none of their own
        if _seen is None or time.monotonic() - _seen[0] > FRESH:
            found = examine()
            _seen = (time.monotonic(), found)
        return _seen[1]


def forget() -> None:
    """Look anew at the next glance."""
    global _seen
    _seen = None


_seen: tuple[float, Health] | None = None
_looking = threading.Lock()


def is_ready() -> bool:
    """Whether this process can serve: its own database answers. A backlog is no reason to take a
    web server away from its load balancer."""
    try:
        with connections[router.db_for_read(Notification)].cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True


# -- what may be wrong --------------------------------------------------------------------------


def _of_queues(queues: Sequence[QueueStats]) -> Iterator[Reason]:
    limits = conf.get("HEALTH")
    going = [each.queue for each in queues if each.ours and not each.paused]
    stalled = statistics.count_stalled(going)
    oldest = conf.parse_duration(limits["OLDEST"]).total_seconds()
    for each in queues:
        if each.failed > limits["FAILED"]:
            yield _degraded(each, "failed", f"{each.failed} failed jobs")
        if each.dlq > limits["DLQ"]:
            yield _degraded(each, "dlq", f"{say(each.dlq)} dead letters wait for a person")
        if not each.ours:  # how long the host's own jobs may wait, the host knows
            continue
        if each.paused:
            yield _degraded(each, "paused", f"paused: {each.paused}")
        elif each.waiting > limits["WAITING"]:
            yield _degraded(each, "waiting", f"{say(each.waiting)} waiting jobs")
        lost = stalled.get(each.queue, 0)
        if lost > limits["STALLED"]:
            yield _degraded(each, "stalled", f"{lost} stalled jobs: their worker died")
        if not each.paused and each.oldest is not None and each.oldest > oldest:
            yield _degraded(each, "oldest", f"the oldest job waits for {each.oldest:.0f} s")


def _of_holds() -> Iterator[Reason]:
    found = Hold.objects.in_force().exclude(scope=Hold.Scope.QUEUE)
    for held in found.order_by("pk")[:50]:
        what = f"{held.get_scope_display()} {held.name}".strip()
        yield Reason(Level.DEGRADED, f"hold {held.scope} {held.name}", f"{what}: {held.reason}")


def _of_clocks() -> Iterator[Reason]:
    patience = conf.parse_duration(conf.get("HEALTH")["CLOCK"])
    if not Heartbeat.objects.filter(seen_at__gte=Now() - patience).exists():
        text = (
            f"no clock was seen for {patience.total_seconds():.0f} s: is a worker running? "
            "(manage.py rqworker)"
        )
        yield Reason(Level.FAILING, "clock", text)


def _of_workers(queues: Sequence[QueueStats]) -> Iterator[Reason]:
    """A queue that nobody listens to. What waits there waits for ever."""
    ours = [each for each in queues if each.ours]
    try:
        served = _served([each.queue for each in ours])
    except RedisError as error:
        gone = f"Redis does not answer ({type(error).__name__}): messages go out late"
        yield Reason(Level.DEGRADED, "redis", gone)
        return
    for each in ours:
        if each.queue not in served:
            level = Level.FAILING if each.waiting else Level.DEGRADED
            yield Reason(level, f"{each.queue} workers", f"{each.queue}: no worker listens to it")


def _served(queues: Iterable[str]) -> set[str]:
    """Those of `queues` that a living worker listens to. Asks each Redis for its workers, not for
    those of each queue: an idle system should not cost many commands."""
    served: set[str] = set()
    for redis, names in group_by_redis(queues).items():
        with redis.pipeline(transaction=False) as pipeline:
            for key in redis.smembers(REDIS_WORKER_KEYS):
                pipeline.hget(key, "queues")
            told = pipeline.execute()
        heard = {name for each in told if each for name in as_text(each).split(",")}
        served.update(heard.intersection(names))  # a dead worker's hash has expired
    return served


def _degraded(stats: QueueStats, what: str, text: str) -> Reason:
    return Reason(Level.DEGRADED, f"{stats.queue} {what}", f"{stats.queue}: {text}")


# -- the clock's part ---------------------------------------------------------------------------


def beat(name: str, queues: Sequence[str]) -> None:
    """Say that a clock lives."""
    rows = Heartbeat.objects.using(router.db_for_write(Heartbeat))
    if not rows.filter(name=name).update(seen_at=Now(), queues=list(queues)):
        rows.bulk_create([Heartbeat(name=name, queues=list(queues))], ignore_conflicts=True)
        rows.filter(seen_at__lt=Now() - timedelta(days=1)).delete()


def tell(health: Health) -> None:
    """Raise an alert for each reason; the same one at most once in an hour (ALERTS, EVERY)."""
    for reason in health.reasons:
        with suppress(DatabaseError):
            alerts.alert(f"health: {reason.text}", reason.text, key=f"health {reason.key}"[:200])


def clocks() -> list[tuple[str, list[str], datetime, datetime]]:
    """Every clock of the last day: its name, queues, start, and when it was last seen."""
    rows = Heartbeat.objects.order_by("-seen_at")
    return list(rows.values_list("name", "queues", "started_at", "seen_at")[:100])
