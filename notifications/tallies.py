"""Counts of what happened, taken from big tables into small ones a few seconds later.

The way of a message pays nothing for it: the clock walks up the primary keys of attempts, receipts
and dead letters, and adds what is new to `Tally` and `QueueTally` rows, which tell when, and to
`Total` rows, which never fall. One clock at a time does so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import router, transaction
from django.db.models import Count, F, QuerySet, Sum
from django.db.models.functions import Coalesce, Now, TruncMinute

from notifications.models import (
    Attempt,
    DeadLetter,
    QueueTally,
    Receipt,
    Tally,
    Total,
    Watermark,
)
from notifications.models.statistics import Counted

STEP = 10.0  # seconds between two looks of one clock
SETTLED = timedelta(seconds=10)  # older rows are all there: keys are given before a commit
QUARTER = 15  # minutes
BATCH = 5_000  # rows of one transaction
BATCHES = 20  # of one look
KEPT = timedelta(days=40)  # the longest chart shows 30

# What distinguishes the rows of each table that is added to.
KEYS: Mapping[type[Counted], tuple[str, ...]] = {
    Tally: ("since", "queue", "topic", "name", "provider", "what"),
    QueueTally: ("queue", "what", "since"),
    Total: ("queue", "name", "provider", "what"),
}

Sums = dict[tuple[Any, ...], tuple[int, int]]  # by key: count, milliseconds


@dataclass(frozen=True, slots=True)
class _Source:
    """One of the tables that are tallied."""

    rows: Callable[[], QuerySet[Any]]
    at: str  # the field that tells when it happened
    queue: Any
    name: Any
    topic: Any = None
    provider: Any = None
    what: Any = None
    milliseconds: Any = None


_SOURCES = {
    "attempt": _Source(
        Attempt.objects.all,
        at="created_at",
        queue=Coalesce(F("notification__queue"), F("task__queue")),
        name=Coalesce(F("notification__kind"), F("task__name")),
        topic=F("task__topic"),
        provider=F("provider"),
        what=F("outcome"),
        milliseconds=Sum("milliseconds"),
    ),
    "receipt": _Source(
        lambda: Receipt.objects.filter(notification__isnull=False),
        at="received_at",
        queue=F("notification__queue"),
        name=F("notification__kind"),
        provider=F("provider"),
        what=F("fate"),
    ),
    "deadletter": _Source(
        DeadLetter.objects.all,
        at="created_at",
        queue=F("queue"),
        name=F("name"),
        topic=F("topic"),
    ),
}


def count_new() -> int:
    """Tally what is new; how many rows were counted."""
    return sum(_count(table, source) for table, source in _SOURCES.items())


def forget_old() -> int:
    """Remove tallies that no chart shows; how many."""
    old = Now() - KEPT
    return sum(model.objects.filter(since__lt=old).delete()[0] for model in (Tally, QueueTally))


def _count(table: str, source: _Source) -> int:
    counted = 0
    for _ in range(BATCHES):
        some = _count_batch(table, source)
        counted += some
        if some < BATCH:
            break
    return counted


def _count_batch(table: str, source: _Source) -> int:
    using = router.db_for_write(Tally)
    marks = Watermark.objects.using(using)
    rows = source.rows().using(using)
    with transaction.atomic(using=using):
        mark = marks.select_for_update(skip_locked=True).filter(table=table).first()
        if mark is None:  # the first time; or another clock is at it
            marks.bulk_create([Watermark(table=table)], ignore_conflicts=True)
            return 0
        new = rows.filter(pk__gt=mark.last_id, **{f"{source.at}__lt": Now() - SETTLED})
        ids = list(new.order_by("pk").values_list("pk", flat=True)[:BATCH])
        if not ids:
            return 0
        # Only what lies between: keys may come to light out of order, and are then counted later.
        groups = list(_group(rows.filter(pk__gt=mark.last_id, pk__lte=ids[-1]), source))
        for model, fields in KEYS.items():
            _add(model, fields, groups, using)
        marks.filter(table=table).update(last_id=ids[-1])
    return len(ids)


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of a batch that happened alike."""

    since: datetime
    queue: str
    topic: str
    name: str
    provider: str
    what: str
    count: int
    milliseconds: int


def _group(rows: QuerySet[Any], source: _Source) -> Iterable[_Group]:
    texts = {
        f"of_{part}": value
        for part in ("queue", "topic", "name", "provider", "what")
        if (value := getattr(source, part)) is not None
    }
    groups = (
        rows.order_by()
        # In UTC: where clocks are set back, an hour of local time comes twice.
        .annotate(minute=TruncMinute(source.at, tzinfo=UTC), **texts)
        .values("minute", *texts)
        .annotate(number=Count("pk"), took=source.milliseconds or Sum(F("pk") * 0))
    )
    for group in groups:
        minute = group["minute"]
        yield _Group(
            since=minute.replace(minute=minute.minute // QUARTER * QUARTER),
            queue=group["of_queue"] or "",
            topic=group.get("of_topic") or "",
            name=group["of_name"] or "",
            provider=group.get("of_provider") or "",
            what=group.get("of_what") or "dead",
            count=group["number"],
            milliseconds=group["took"] or 0,
        )


def _add(model: type[Counted], fields: Sequence[str], groups: Iterable[_Group], using: str) -> None:
    sums: Sums = {}
    for group in groups:
        key = tuple(getattr(group, field) for field in fields)
        count, took = sums.get(key, (0, 0))
        sums[key] = count + group.count, took + group.milliseconds
    rows = model._default_manager.using(using)
    # The watermark's lock keeps others out, so what is read here is still so when it is written.
    # (Those who count other tables add to other rows: each has words of its own for `what`.)
    values = {f"{field}__in": {key[place] for key in sums} for place, field in enumerate(fields)}
    for *known, count, took in rows.filter(**values).values_list(*fields, "count", "milliseconds"):
        if tuple(known) in sums:
            more = sums[tuple(known)]
            sums[tuple(known)] = count + more[0], took + more[1]
    rows.bulk_create(
        [
            model(**dict(zip(fields, key, strict=True)), count=count, milliseconds=took)
            for key, (count, took) in sums.items()
        ],
        update_conflicts=True,
        unique_fields=fields,
        update_fields=["count", "milliseconds"],
    )
