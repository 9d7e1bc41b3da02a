"""What is removed when it is old enough, or more than shall be kept, a little at a time.

By the setting RETENTION, every hour (`notifications.tidy`) and when a person asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import router, transaction
from django.db.models import Case, Max, Min, Q, QuerySet, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from notifications import conf, signals
from notifications.errors import WrongState
from notifications.models import Notification, State, Task

BATCH = 1000  # rows one statement touches, so that no table is locked for long
WINDOW = 10_000  # keys one statement looks through to count rows
WINDOWS = 1_000  # of one table in one run

Step = Callable[[int], object]  # is told how many rows one batch was

FINAL = frozenset(State.values) - {State.PENDING}


def remove(
    *,
    states: Collection[str] | None = None,
    older_than: timedelta | None = None,
    queue: str | None = None,
    dry_run: bool = False,
    step: Step = lambda count: None,
) -> int:
    """Remove rows that ended long enough ago, and those beyond the number to keep; how many. Each
    batch is told to `step`.

    Without `older_than` NOTIFICATIONS["RETENTION"] says what that is, and without `states` for
    which. Waiting rows are never removed. Raises WrongState for a state that is no end.
    """
    kept = {state: conf.parse_retention(each) for state, each in conf.get("RETENTION").items()}
    wanted = set(states) if states is not None else set(kept)
    check_ends(wanted)
    if older_than is not None:
        kept = dict.fromkeys(wanted, conf.Retention(older_than, None))
    chosen = {state: kept[state] for state in sorted(wanted & kept.keys())}
    each = QuerySet.count if dry_run else partial(_delete, step=step)
    removed = 0
    for model in (Notification, Task):
        for state, gone in _remove_from(model, chosen, queue=queue, remove=each).items():
            removed += gone
            if gone and not dry_run:
                signals.cleaned.tell(
                    work=model._meta.model_name, queue=queue, state=state, count=gone
                )
    return removed


def count(*, states: Collection[str], older_than: timedelta, queue: str, most: int) -> int:
    """How many rows `remove` would remove; counts no further than `most`."""
    found = [_ended(model, states, older_than, queue)[:most] for model in (Notification, Task)]
    return min(most, sum(rows.count() for rows in found))


def check_ends(states: Collection[str]) -> None:
    """Raise WrongState for a state that is no end."""
    if others := set(states) - FINAL:
        known = ", ".join(sorted(FINAL))
        raise WrongState(f"Not ends: {', '.join(sorted(others))}. There are: {known}.")


def batches(rows: QuerySet[Any]) -> Iterator[list[int]]:
    """Primary keys of `rows`, a batch at a time, walking up the primary key."""
    last = 0
    while ids := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:BATCH]):
        yield ids
        last = ids[-1]


def still_among(rows: QuerySet[Any], ids: Collection[int]) -> list[int]:
    """The keys among `ids` whose rows are still among `rows`, locked until the caller's transaction
    ends.

    Between the choice of a batch and this moment a person may have retried one, or a receipt moved
    it. What others have locked is about to change, and is left for the next time.
    """
    again = rows.filter(pk__in=ids).order_by("pk").select_for_update(skip_locked=True)
    return list(again.values_list("pk", flat=True))


def made_before(model: type[Notification] | type[Task], before: Combinable) -> int:
    """The primary key up to which rows were made before that time; 0 if none was.

    Keys grow with time, so a few looks at the primary key find it; an index on the times would cost
    every message a write, only to find what is old.
    """
    rows = model._default_manager.order_by("pk").annotate(old=_is_old(before))
    ends = model._default_manager.aggregate(first=Min("pk"), last=Max("pk"))
    low, high = (ends["first"] or 1) - 1, ends["last"] or 0
    while low < high:
        middle = (low + high + 1) // 2
        pk, old = rows.filter(pk__lte=middle).values_list("pk", "old").last() or (0, True)
        if old:
            low = middle
        else:
            high = pk - 1
    return low


def _ended(
    model: type[Notification] | type[Task],
    states: Collection[str],
    age: timedelta,
    queue: str | None,
) -> QuerySet[Any]:
    before = Now() - age
    rows: QuerySet[Any] = model._default_manager.filter(
        pk__lte=made_before(model, before), state__in=states, settled_at__lt=before
    )
    return rows if queue is None else rows.filter(queue=queue)


def _is_old(before: Combinable) -> Case:
    return Case(When(created_at__lt=before, then=Value(True)), default=Value(False))


def _remove_from(
    model: type[Notification] | type[Task],
    kept: Mapping[str, conf.Retention],
    *,
    queue: str | None,
    remove: Callable[[QuerySet[Any]], int],
) -> dict[str, int]:
    rows: QuerySet[Any] = model._default_manager.using(router.db_for_write(model))
    if queue is not None:
        rows = rows.filter(queue=queue)
    removed = dict.fromkeys(kept, 0)
    old = {state: _old(model, each.age) for state, each in kept.items()}
    for state in kept:
        removed[state] += remove(rows.filter(old[state], state=state))
    for state, where in _surplus(model, kept):
        removed[state] += remove(rows.filter(where, state=state).exclude(old[state]))
    return removed


def _old(model: type[Notification] | type[Task], age: timedelta | None) -> Q:
    if age is None:
        return Q(pk__in=())
    before = Now() - age
    return Q(pk__lte=made_before(model, before), settled_at__lt=before)


def _surplus(
    model: type[Notification] | type[Task], kept: Mapping[str, conf.Retention]
) -> Iterator[tuple[str, Q]]:
    """Where the rows are that are more than shall be kept: a state and a few of the keys, from the
    newest down.

    One walk for all states, so many keys at a time and no more than WINDOWS times. Indexes on the
    states would lead there at once, and cost every message a write.
    """
    left = {state: each.count for state, each in kept.items() if each.count is not None}
    rows = model._default_manager.using(router.db_for_write(model))
    high = rows.aggregate(last=Max("pk"))["last"] if left else None
    for _ in range(WINDOWS):
        if high is None:
            return
        low = high - WINDOW
        surplus: dict[str, int] = {}  # the newest in this window
        counted = rows.filter(pk__gt=low, pk__lte=high, state__in=left).order_by("-pk")
        for pk, state in counted.values_list("pk", "state"):
            left[state] -= 1
            if left[state] < 0:
                surplus.setdefault(state, pk)
        for state, pk in surplus.items():
            yield state, Q(pk__gt=low, pk__lte=pk)
        high = rows.filter(pk__lte=low).aggregate(last=Max("pk"))["last"]  # over any gap


def _delete(rows: QuerySet[Any], *, step: Step) -> int:
    removed = 0
    for ids in batches(rows):
        with transaction.atomic(using=rows.db):
            ours = still_among(rows, ids)
            rows.model._default_manager.using(rows.db).filter(pk__in=ours).delete()
        removed += len(ours)
        step(len(ours))
    return removed
