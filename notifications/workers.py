"""The workers that Redis knows of: where they are, what they serve and do, and when last seen."""

# mypy: allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis import Redis
from rq import Worker

from notifications import conf
from notifications.connections import group_by_redis

SHOWN = 500  # workers of one Redis


@dataclass(frozen=True, slots=True)
class WorkerLook:
    """One worker, as it last told Redis."""

    name: str
    host: str
    pid: int | None
    queues: tuple[str, ...]
    state: str  # RQ's: starting, started, idle, busy, suspended
    since: datetime | None
    seen_at: datetime | None


def look_at_all() -> list[WorkerLook]:
    """Every worker, by host and name. Raises RedisError."""
    redises = group_by_redis(conf.queue_names())
    found = {look.name: look for redis in redises for look in _workers(redis)}
    return sorted(found.values(), key=lambda look: (look.host, look.name))


def _workers(redis: Redis) -> list[WorkerLook]:
    return [_look(worker) for worker in Worker.all(connection=redis)[:SHOWN]]


def _look(worker: Any) -> WorkerLook:
    return WorkerLook(
        name=worker.name,
        host=worker.hostname or "",
        pid=worker.pid,
        queues=tuple(worker.queue_names()),
        state=str(getattr(worker.get_state(), "value", worker.get_state())),
        since=worker.birth_date,
        seen_at=worker.last_heartbeat,
    )
