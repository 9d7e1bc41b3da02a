"""How the events fare for people: the statistics of each topic, who hears it, and its latest event.

Events are counted among the newest LOOKED_AT tasks, by the primary key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Max

from notifications import events, statistics
from notifications.models import Task
from notifications.statistics import EventStats
from notifications.tasks import TaskFunction

LOOKED_AT = 20_000


@dataclass(frozen=True, slots=True)
class TopicLook:
    """One topic."""

    stats: EventStats
    handlers: tuple[TaskFunction, ...]  # none: nobody hears it any more
    events: int = 0  # published
    last_at: datetime | None = None

    @property
    def topic(self) -> str:
        """Its name."""
        return self.stats.topic


def look_at_all() -> list[TopicLook]:
    """Every topic that somebody hears, and those that lately had events; a few queries."""
    newest = Task.objects.aggregate(pk=Max("pk"))["pk"] or 0
    rows = (
        Task.objects.filter(pk__gt=newest - LOOKED_AT)
        .exclude(topic="")
        .order_by()
        .values("topic")
        .annotate(events=Count("event_id", distinct=True), last_at=Max("created_at"))
    )
    found: list[dict[str, Any]] = [dict(row) for row in rows]
    told = {row.pop("topic"): row for row in found}
    known = events.topics()
    return [
        TopicLook(stats, tuple(known.get(stats.topic, ())), **told.get(stats.topic, {}))
        for stats in statistics.event_stats(also=told)
    ]
