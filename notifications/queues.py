"""How each queue stands for people: its statistics, how fast it goes, and what holds it up.

Every question is answered from an index, however long the backlog is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Count, Max
from django.db.models.functions import Coalesce, Now

from notifications import conf, holds, statistics
from notifications.models import Attempt, Hold
from notifications.statistics import QueueStats

RECENT = 10_000  # newest attempts that the rate is taken from
RATED = timedelta(minutes=5)

_GOOD = ("accepted", "done")


@dataclass(frozen=True, slots=True)
class QueueLook:
    """One queue at one moment."""

    name: str
    carries: str  # its channel; "tasks"; or empty for a queue of the host's own
    stats: QueueStats
    per_minute: float = 0.0  # done, over the last RATED
    limit: conf.Rate | None = None
    holds: tuple[Hold, ...] = ()  # the open ones that concern it

    @property
    def ours(self) -> bool:
        """Whether it carries this app's rows."""
        return bool(self.carries)

    @property
    def paused(self) -> Hold | None:
        """The hold on the queue itself."""
        return next((each for each in self.holds if each.scope == Hold.Scope.QUEUE), None)


def look_at_all() -> list[QueueLook]:
    """Every queue of RQ_QUEUES, in its order. Redis is asked about the host's own queues only."""
    opened, rates = _open_holds(), _rates()
    return [_look(stats, opened, rates) for stats in statistics.all_queue_stats()]


def look_at(name: str) -> QueueLook:
    """One queue. Raises KeyError for one that is not in RQ_QUEUES."""
    if name not in conf.queue_names():
        raise KeyError(name)
    return _look(statistics.queue_stats(name), _open_holds(), _rates())


def why_nothing_goes() -> str | None:
    """Why all queues are held, or None."""
    return holds.current().everything


def _look(stats: QueueStats, opened: Iterable[Hold], rates: Mapping[str, float]) -> QueueLook:
    name = stats.queue
    if not stats.ours:
        return QueueLook(name, "", stats)
    channel = conf.channel_of_queue(name)
    return QueueLook(
        name,
        "tasks" if channel is None else channel.name,
        stats,
        per_minute=rates.get(name, 0.0),
        limit=channel.rate if channel else None,
        holds=tuple(each for each in opened if _concerns(each, name, channel)),
    )


def _rates() -> dict[str, float]:
    """Done in a minute, by queue, as far as the RECENT newest attempts tell."""
    newest = Attempt.objects.aggregate(pk=Max("pk"))["pk"] or 0
    recent = Attempt.objects.filter(pk__gt=newest - RECENT, created_at__gt=Now() - RATED)
    rows = (
        recent.filter(outcome__in=_GOOD)
        .order_by()
        .values(name=Coalesce("notification__queue", "task__queue"))
        .annotate(count=Count("pk"))
    )
    minutes = RATED.total_seconds() / 60
    return {row["name"]: row["count"] / minutes for row in rows}


def _open_holds() -> list[Hold]:
    return list(Hold.objects.in_force().select_related("by").order_by("-id"))


def _concerns(held: Hold, name: str, channel: conf.ChannelConf | None) -> bool:
    if held.scope == Hold.Scope.ALL:
        return True
    if held.scope in (Hold.Scope.QUEUE, Hold.Scope.BACKLOG):
        return held.name == name
    if channel is None:
        return False
    if held.scope == Hold.Scope.PROVIDER:
        return held.name in {provider.name for provider in channel.providers}
    return held.scope == Hold.Scope.TEMPLATE and held.name.startswith(
        holds.template_of(channel.name, "")
    )
