"""How the events fare: for each topic, what its handlers have done lately.

The newest LOOKED_AT tasks are counted, by the primary key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Max, Q

from notifications import events
from notifications.models import State, Task
from notifications.tasks import TaskFunction

LOOKED_AT = 100_000


@dataclass(frozen=True, slots=True)
class TopicLook:
    """One topic."""

    topic: str
    handlers: tuple[TaskFunction, ...]  # none: nobody hears it any more
    events: int = 0  # published
    waiting: int = 0  # calls of handlers, here and below
    done: int = 0
    failed: int = 0
    last_at: datetime | None = None


def look_at_all() -> list[TopicLook]:
    """Every topic that somebody hears, and those that lately had events; two queries."""
    newest = Task.objects.aggregate(pk=Max("pk"))["pk"] or 0
    rows = (
        Task.objects.filter(pk__gt=newest - LOOKED_AT)
        .exclude(topic="")
        .order_by()
        .values("topic")
        .annotate(
            events=Count("event_id", distinct=True),
            waiting=Count("pk", filter=Q(state=State.PENDING)),
            done=Count("pk", filter=Q(state=State.DONE)),
            failed=Count("pk", filter=Q(state=State.DEAD)),
            last_at=Max("created_at"),
        )
    )
    told: dict[str, dict[str, Any]] = {row["topic"]: dict(row) for row in rows}
    known = events.topics()
    return [
        TopicLook(handlers=tuple(known.get(topic, ())), **told.get(topic, {"topic": topic}))
        for topic in sorted({*known, *told})
    ]
