"""How the queues stand: for screens, commands, monitoring and code.

What waits is counted in the index that the claim uses, and never beyond MOST; what happened comes
from small rows that are added up. So every answer is quick however big the tables are, and a count
of MOST means "or more".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet, Sum
from django.db.models.functions import Now
from django.db.models.functions.datetime import TruncBase

from notifications import conf, events, holds
from notifications.models import DeadLetter, Notification, Priority, QueueTally, State, Tally, Task

MOST = 10_000  # rows that are counted at most
DAY = timedelta(days=1)
FRONT = 1000  # rows that are looked through for stalled ones
GRACE = timedelta(seconds=30)  # a lease that is over is taken up by the next clock, a second later

_COMPLETED = ("accepted", "done")
_GIVEN_UP = "dead"


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One queue. Counts of MOST mean "or more"; completed and failed are of the last day."""

    queue: str
    waiting: int  # due, and not taken yet
    active: int  # claimed by a worker
    delayed: int  # due later: scheduled, or waiting for the next attempt
    completed: int  # accepted by a provider, or done
    failed: int  # given up
    dlq: int  # dead letters that wait for a person
    paused: str  # why nothing is claimed; empty if it is
    oldest: float | None  # seconds that the oldest due row waits; None if none does

    def as_dict(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class EventStats:
    """The handlers of one topic; counts as in `QueueStats`."""

    topic: str
    waiting: int
    active: int
    completed: int
    failed: int

    def as_dict(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        return asdict(self)


def say(count: int) -> str:
    """A count, for people."""
    return f"{MOST}+" if count >= MOST else str(count)


def model_of(queue: str) -> type[Notification] | type[Task]:
    """What kind of rows wait in `queue`."""
    return Task if conf.channel_of_queue(queue) is None else Notification


def queue_stats(name: str) -> QueueStats:
    """How one queue stands now. Raises LookupError for a name that is no queue of ours."""
    if not conf.owns_queue(name):
        raise LookupError(f"{name!r} is no queue of this app.")
    pending = _pending(name)
    due = pending.filter(due_at__lte=Now())
    later = pending.filter(due_at__gt=Now())
    # A claimed row is due again at the end of its lease; what is delayed holds no token.
    longest = timedelta(seconds=max(float(conf.get("LEASE")), float(conf.get("LONGEST_TASK"))) + 10)
    active = later.filter(due_at__lte=Now() + longest, token__isnull=False)
    happened = _happened_in(name)
    return QueueStats(
        queue=name,
        waiting=_count(due),
        active=_count(active),
        delayed=_count(later.filter(token=None)),
        completed=sum(happened.get(what, 0) for what in _COMPLETED),
        failed=happened.get(_GIVEN_UP, 0),
        dlq=_count(DeadLetter.objects.filter(queue=name)),
        paused=holds.current().stops(name) or "",
        oldest=_oldest(due),
    )


def all_queue_stats() -> list[QueueStats]:
    """Every queue of this app that the project has, in the order of RQ_QUEUES."""
    return [queue_stats(name) for name in conf.queue_names() if conf.owns_queue(name)]


def count_stalled(name: str) -> int:
    """How many of the FRONT rows of a queue that are due first were taken by a worker that died,
    longer than GRACE ago, and by nobody since."""
    due = _pending(name).filter(due_at__lte=Now() - GRACE)  # the end of the lease
    front = due.order_by("priority", "due_at").values("pk")[:FRONT]
    return due.filter(pk__in=front, token__isnull=False).count()


def event_stats() -> list[EventStats]:
    """How the handlers of every topic stand."""
    return [_event_stats(topic) for topic in sorted(events.topics())]


def happened(window: timedelta, step: type[TruncBase], **only: Any) -> list[dict[str, Any]]:
    """What happened in the last `window`: dicts of at (the beginning of a step, in local time),
    queue, what and count. `only` filters by queue and what."""
    rows = QueueTally.objects.filter(since__gte=Now() - window, **only)
    groups = rows.values("queue", "what", at=step("since")).annotate(number=Sum("count"))
    return [
        {"at": each["at"], "queue": each["queue"], "what": each["what"], "count": each["number"]}
        for each in groups.order_by("at")
    ]


def _happened_in(queue: str) -> Mapping[str, int]:
    """What was completed and what was given up in the last day, by its word."""
    rows = QueueTally.objects.filter(
        queue=queue, what__in=(*_COMPLETED, _GIVEN_UP), since__gte=Now() - DAY
    )
    counts = rows.values("what").annotate(number=Sum("count"))
    return dict(counts.values_list("what", "number"))


def _happened(window: timedelta, **only: Any) -> Mapping[str, int]:
    rows = Tally.objects.filter(since__gte=Now() - window, **only).values("what")
    return dict(rows.annotate(number=Sum("count")).values_list("what", "number"))


def _event_stats(topic: str) -> EventStats:
    names = [function.name for function in events.handlers(topic)]
    queues = {function.queue for function in events.handlers(topic)}
    waiting = active = 0
    for queue in queues:
        pending = _pending(queue).filter(name__in=names)
        waiting += _count(pending.filter(due_at__lte=Now()))
        active += _count(pending.filter(due_at__gt=Now(), token__isnull=False))
    counts = _happened(DAY, name__in=names)
    return EventStats(
        topic=topic,
        waiting=waiting,
        active=active,
        completed=counts.get("done", 0),
        failed=counts.get("dead", 0),
    )


def _pending(queue: str) -> QuerySet[Any]:
    """Rows that wait in `queue`, by way of the claim's index: queue, priority, due_at."""
    rows = model_of(queue)._default_manager
    return rows.filter(queue=queue, state=State.PENDING, priority__in=list(Priority))


def _count(rows: QuerySet[Any]) -> int:
    return rows.order_by()[:MOST].count()


def _oldest(due: QuerySet[Any]) -> float | None:
    """The first row of each priority is its oldest one."""
    moments: list[tuple[datetime, datetime]] = []
    for priority in Priority:
        first = due.filter(priority=priority).annotate(now=Now()).order_by("due_at")
        moments += first.values_list("due_at", "now")[:1]
    return max(((now - at).total_seconds() for at, now in moments), default=None)
