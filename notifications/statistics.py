"""How the queues stand: for screens, commands, monitoring and code.

What waits is counted in the index that the claim uses, and never beyond MOST; what happened comes
from small rows that are added up. So every answer is quick however big the tables are, and a count
of MOST means "or more".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet, Sum
from django.db.models.functions import Now
from django.db.models.functions.datetime import TruncBase

from notifications import conf, events, holds, hostqueues, pending
from notifications.hostqueues import Jobs
from notifications.models import DeadLetter, QueueTally, Tally
from notifications.pending import Pending

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
    known: bool = True  # what waits; not of a queue of the host's own while Redis is away

    @property
    def ours(self) -> bool:
        """Whether it carries this app's rows, and not jobs of the host's own."""
        return conf.owns_queue(self.queue)

    def as_dict(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        fields = asdict(self)
        del fields["known"]
        return fields

    def as_words(self) -> dict[str, str]:
        """Its counts, for people."""
        unknown = {} if self.known else dict.fromkeys(("waiting", "active", "delayed"), "?")
        return _words(self, MOST) | unknown


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


def queue_stats(name: str) -> QueueStats:
    """How one queue stands now. Raises LookupError for a name that is no queue of the project."""
    if not conf.owns_queue(name) and name not in conf.queue_names():
        raise LookupError(f"{name!r} is no queue of this project.")
    return _stats_of([name])[0]


def all_queue_stats() -> list[QueueStats]:
    """Every queue that the project has, in the order of RQ_QUEUES; a few queries."""
    return _stats_of(conf.queue_names())


def count_stalled(queues: Collection[str]) -> dict[str, int]:
    """How many of the first rows of each of these queues were taken by a worker that died, longer
    than GRACE ago, and by nobody since."""
    return pending.count_stalled(queues, grace=GRACE.total_seconds(), most=FRONT)


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
        for topic, now in pending.count_topics(names, most=MOST_OF_TOPIC).items()
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


def _stats_of(names: Sequence[str]) -> list[QueueStats]:
    ours = [name for name in names if conf.owns_queue(name)]
    hosts = [name for name in names if name not in ours]
    rows, jobs = pending.count_queues(ours, most=MOST), hostqueues.count(hosts)
    ended = _ended_by_queue(names)
    return [
        _stats_of_ours(name, rows[name], ended.get(name, {}))
        if name in rows
        else _stats_of_host(name, jobs.get(name), ended.get(name, {}))
        for name in names
    ]


def _stats_of_ours(name: str, rows: Pending, ended: Mapping[str, int]) -> QueueStats:
    return QueueStats(
        queue=name,
        waiting=rows.waiting,
        active=rows.active,
        delayed=rows.delayed,
        completed=sum(ended.get(what, 0) for what in _COMPLETED),
        failed=ended.get(_GIVEN_UP, 0),
        dlq=rows.dlq,
        paused=holds.current().stops(name) or "",
        oldest=rows.oldest,
    )


def _stats_of_host(name: str, jobs: Jobs | None, ended: Mapping[str, int]) -> QueueStats:
    """A queue of the host's own. What failed there is known from its dead letters, what waits from
    Redis, and what was completed not at all."""
    return QueueStats(
        queue=name,
        waiting=jobs.waiting if jobs else 0,
        active=jobs.active if jobs else 0,
        delayed=jobs.delayed if jobs else 0,
        completed=0,
        failed=ended.get(_GIVEN_UP, 0),
        dlq=DeadLetter.objects.filter(queue=name).order_by()[:MOST].count(),
        paused="",
        oldest=None,
        known=jobs is not None,
    )


def _ended_by_queue(queues: Collection[str]) -> dict[str, dict[str, int]]:
    """What was completed and given up in the last day, by queue and word."""
    rows = QueueTally.objects.filter(
        queue__in=queues, what__in=(*_COMPLETED, _GIVEN_UP), since__gte=Now() - DAY
    )
    return _sum_up(rows, "queue")


def _ended_by_topic() -> dict[str, dict[str, int]]:
    """The same of handlers, by topic."""
    rows = Tally.objects.filter(since__gte=Now() - DAY, what__in=("done", _GIVEN_UP))
    return _sum_up(rows.exclude(topic=""), "topic")


def _sum_up(rows: QuerySet[Any], by: str) -> dict[str, dict[str, int]]:
    sums: dict[str, dict[str, int]] = {}
    counts = rows.values(by, "what").annotate(number=Sum("count"))
    for name, what, number in counts.values_list(by, "what", "number"):
        sums.setdefault(name, {})[what] = number
    return sums


def _words(stats: QueueStats | EventStats, most: int) -> dict[str, str]:
    counts = {name: getattr(stats, name) for name in COUNTS}
    return {
        name: str(count) if name in _EXACT else say(count, most) for name, count in counts.items()
    }
