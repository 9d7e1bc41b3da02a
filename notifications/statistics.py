"""How the queues stand: for screens, commands, monitoring and code.

What waits is counted in the index that the claim uses, and never beyond MOST; what happened comes
from small rows that are added up. So every answer is quick however big the tables are, and a count
of MOST means "or more".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, router
from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import Now
from django.db.models.functions.datetime import TruncBase

from notifications import conf, events, holds, hostqueues, outbox
from notifications.models import DeadLetter, Notification, Priority, QueueTally, State, Tally, Task

MOST = 10_000  # rows that are counted at most
MOST_OF_TOPIC = 1_000  # rows of one topic: there may be many topics
DAY = timedelta(days=1)
FRONT = 1000  # rows that are looked through for stalled ones
GRACE = timedelta(seconds=30)  # a lease that is over is taken up by the next clock, a second later

COUNTS = ("waiting", "active", "delayed", "completed", "failed", "dlq")  # of queues and topics
_EXACT = ("completed", "failed")  # added up, not counted

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

    @property
    def ours(self) -> bool:
        """Whether it carries this app's rows, and not jobs of the host's own."""
        return conf.owns_queue(self.queue)

    def as_dict(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        return asdict(self)

    def as_words(self) -> dict[str, str]:
        """Its counts, for people."""
        return _words(self, MOST)


@dataclass(frozen=True, slots=True)
class EventStats:
    """The handlers of one topic; what is counted is as in `QueueStats`, up to MOST_OF_TOPIC."""

    topic: str
    waiting: int
    active: int
    delayed: int
    completed: int
    failed: int
    dlq: int

    def as_dict(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        return asdict(self)

    def as_words(self) -> dict[str, str]:
        """Its counts, for people."""
        return _words(self, MOST_OF_TOPIC)


def say(count: int, most: int | None = None) -> str:
    """A count that went no further than `most` (MOST, unless it is given), for people."""
    most = MOST if most is None else most
    return f"{most}+" if count >= most else str(count)


def model_of(queue: str) -> type[Notification] | type[Task]:
    """What kind of rows wait in `queue`."""
    return Task if conf.channel_of_queue(queue) is None else Notification


def queue_stats(name: str) -> QueueStats:
    """How one queue stands now. Raises LookupError for a name that is no queue of the project."""
    if conf.owns_queue(name):
        return _stats_of_ours(name)
    if name not in conf.queue_names():
        raise LookupError(f"{name!r} is no queue of this project.")
    return host_stats(name, hostqueues.count([name]).get(name))


def all_queue_stats() -> list[QueueStats]:
    """Every queue that the project has, in the order of RQ_QUEUES."""
    names = conf.queue_names()
    jobs = hostqueues.count([name for name in names if not conf.owns_queue(name)])
    return [
        _stats_of_ours(name) if conf.owns_queue(name) else host_stats(name, jobs.get(name))
        for name in names
    ]


def host_stats(name: str, jobs: hostqueues.Jobs | None) -> QueueStats:
    """A queue of the host's own. What failed there is known from its dead letters, what waits from
    Redis (None: it does not answer), and what was completed not at all."""
    return QueueStats(
        queue=name,
        waiting=jobs.waiting if jobs else 0,
        active=jobs.active if jobs else 0,
        delayed=jobs.delayed if jobs else 0,
        completed=0,
        failed=_happened_in(name).get(_GIVEN_UP, 0),
        dlq=_count_letters(name),
        paused="",
        oldest=None,
    )


def count_stalled(name: str) -> int:
    """How many of the FRONT rows of a queue that are due first were taken by a worker that died,
    longer than GRACE ago, and by nobody since."""
    due = _pending(name).filter(due_at__lte=Now() - GRACE)  # the end of the lease
    front = due.order_by("priority", "due_at").values("pk")[:FRONT]
    return due.filter(pk__in=front, token__isnull=False).count()


def event_stats(also: Collection[str] = ()) -> list[EventStats]:
    """How the handlers of every topic stand: those that somebody hears, those that had events in
    the last day, and those of `also`."""
    ended = _ended_by_topic()
    names = sorted({*events.topics(), *ended, *also})
    return [
        EventStats(
            topic=topic,
            completed=ended.get(topic, {}).get("done", 0),
            failed=ended.get(topic, {}).get(_GIVEN_UP, 0),
            **now,
        )
        for topic, now in _count_by_topic(names)
    ]


def happened(window: timedelta, step: type[TruncBase], **only: Any) -> list[dict[str, Any]]:
    """What happened in the last `window`: dicts of at (the beginning of a step, in local time),
    queue, what and count. `only` filters by queue and what."""
    rows = QueueTally.objects.filter(since__gte=Now() - window, **only)
    groups = rows.values("queue", "what", at=step("since")).annotate(number=Sum("count"))
    return [
        {"at": each["at"], "queue": each["queue"], "what": each["what"], "count": each["number"]}
        for each in groups.order_by("at")
    ]


def _stats_of_ours(name: str) -> QueueStats:
    pending = _pending(name)
    due = pending.filter(due_at__lte=Now())
    later = pending.filter(due_at__gt=Now())
    happened = _happened_in(name)
    return QueueStats(
        queue=name,
        waiting=_count(due),
        active=_count_claimed(later),
        delayed=_count(later.filter(token=None)),
        completed=sum(happened.get(what, 0) for what in _COMPLETED),
        failed=happened.get(_GIVEN_UP, 0),
        dlq=_count_letters(name),
        paused=holds.current().stops(name) or "",
        oldest=_oldest(due),
    )


def _happened_in(queue: str) -> Mapping[str, int]:
    """What was completed and what was given up in the last day, by its word."""
    rows = QueueTally.objects.filter(
        queue=queue, what__in=(*_COMPLETED, _GIVEN_UP), since__gte=Now() - DAY
    )
    counts = rows.values("what").annotate(number=Sum("count"))
    return dict(counts.values_list("what", "number"))


def _ended_by_topic() -> dict[str, dict[str, int]]:
    """What handlers have completed and given up in the last day, by topic and word."""
    rows = Tally.objects.filter(since__gte=Now() - DAY, what__in=("done", _GIVEN_UP))
    counts = rows.exclude(topic="").values("topic", "what").annotate(number=Sum("count"))
    ended: dict[str, dict[str, int]] = {}
    for topic, what, number in counts.values_list("topic", "what", "number"):
        ended.setdefault(topic, {})[what] = number
    return ended


def _count_by_topic(topics: Sequence[str]) -> Iterator[tuple[str, dict[str, int]]]:
    """What waits of each topic, in one query."""
    if not topics:
        return
    connection = connections[router.db_for_read(Task)]
    sql = _OF_TOPICS.format(
        names=", ".join(["(%s)"] * len(topics)),
        tasks=connection.ops.quote_name(Task._meta.db_table),
        letters=connection.ops.quote_name(DeadLetter._meta.db_table),
        now=outbox.NOW[connection.vendor],
        most=MOST_OF_TOPIC,
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, topics)
        for topic, *counts in cursor.fetchall():
            yield topic, dict(zip(("waiting", "active", "delayed", "dlq"), counts, strict=True))


# For each topic no more rows than are told, off its own indexes (whose conditions are repeated
# here), however much else waits: every worker says this every half minute. What is claimed is due
# at the end of its lease, before most of what is delayed.
_PENDING = (
    "FROM {tasks} WHERE topic = asked.topic AND NOT (topic = '') AND state = 'pending' AND due_at"
)
_OF_TOPICS = f"""
WITH asked (topic) AS (VALUES {{names}})
SELECT asked.topic,
    (SELECT count(*) FROM (SELECT 1 {_PENDING} <= {{now}} LIMIT {{most}}) AS few),
    (SELECT count(token) FROM
        (SELECT token {_PENDING} > {{now}} ORDER BY due_at LIMIT {{most}}) AS few),
    (SELECT count(*) FROM
        (SELECT 1 {_PENDING} > {{now}} AND token IS NULL LIMIT {{most}}) AS few),
    (SELECT count(*) FROM
        (SELECT 1 FROM {{letters}} WHERE topic = asked.topic AND NOT (topic = '') LIMIT {{most}})
        AS few)
FROM asked ORDER BY asked.topic
"""


def _pending(queue: str) -> QuerySet[Any]:
    """Rows that wait in `queue`, by way of the claim's index: queue, priority, due_at."""
    rows = model_of(queue)._default_manager
    return rows.filter(queue=queue, state=State.PENDING, priority__in=list(Priority))


def _count(rows: QuerySet[Any]) -> int:
    return rows.order_by()[:MOST].count()


def _count_letters(queue: str) -> int:
    return _count(DeadLetter.objects.filter(queue=queue))


def _words(stats: QueueStats | EventStats, most: int) -> dict[str, str]:
    counts = {name: getattr(stats, name) for name in COUNTS}
    return {
        name: str(count) if name in _EXACT else say(count, most) for name, count in counts.items()
    }


def _count_claimed(later: QuerySet[Any]) -> int:
    """Those of `later` that a worker has. A claimed row is due again at the end of its lease, so
    they are among the first of each priority; what is delayed holds no token."""
    longest = timedelta(seconds=max(float(conf.get("LEASE")), float(conf.get("LONGEST_TASK"))) + 10)
    soon = later.filter(due_at__lte=Now() + longest)
    fronts = [soon.filter(priority=each).order_by("due_at")[:MOST] for each in Priority]
    return sum(front.aggregate(claimed=Count("token"))["claimed"] for front in fronts)


def _oldest(due: QuerySet[Any]) -> float | None:
    """The first row of each priority is its oldest one."""
    moments: list[tuple[datetime, datetime]] = []
    for priority in Priority:
        first = due.filter(priority=priority).annotate(now=Now()).order_by("due_at")
        moments += first.values_list("due_at", "now")[:1]
    return max(((now - at).total_seconds() for at, now in moments), default=None)
