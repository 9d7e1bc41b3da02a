"""What is removed when it is old enough, a little at a time.

By the setting RETENTION, every hour (`notifications.tidy`) and when a person asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from typing import Any

from django.db import router, transaction
from django.db.models import Case, Max, Min, QuerySet, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from notifications import conf, signals
from notifications.errors import WrongState
from notifications.models import Notification, State, Task

BATCH = 1000  # rows one statement touches, so that no table is locked for long

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
    """Remove rows that ended long enough ago; how many. Each batch is told to `step`.

    Without `states` and `older_than` the ages of NOTIFICATIONS["RETENTION"] apply. Waiting rows
    are never removed. Raises WrongState for a state that is no end.
    """
    ages = conf.get("RETENTION")
    wanted = set(states) if states is not None else set(ages)
    check_ends(wanted)
    removed = 0
    for state in sorted(wanted):
        age = older_than if older_than is not None else ages.get(state)
        if age is None:
            continue
        for model in (Notification, Task):
            rows = _ended(model, [state], conf.parse_duration(age), queue)
            if dry_run:
                removed += rows.count()
            else:
                removed += _delete(rows, state=state, queue=queue, step=step)
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


def _delete(rows: QuerySet[Any], *, state: str, queue: str | None, step: Step) -> int:
    removed = 0
    using = router.db_for_write(rows.model)
    for ids in batches(rows):
        with transaction.atomic(using=using):
            ours = still_among(rows.using(using), ids)
            rows.model._default_manager.using(using).filter(pk__in=ours).delete()
        removed += len(ours)
        step(len(ours))
    if removed:
        signals.cleaned.tell(
            work=rows.model._meta.model_name, queue=queue, state=state, count=removed
        )
    return removed
