"""Dead letters by what they died of: the same error class, provider's code and kind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Max, Min

from notifications.models import DeadLetter

LOOKED_AT = 200_000  # the newest dead letters, which are grouped
SHOWN = 200  # groups


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters with one fingerprint."""

    fingerprint: str
    count: int
    first_at: datetime
    last_at: datetime
    newest: DeadLetter  # says what the others died of too


def groups() -> list[Group]:
    """The groups among the LOOKED_AT newest dead letters, the one that grew last first."""
    newest = DeadLetter.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    rows: Any = (
        DeadLetter.objects.filter(pk__gt=newest - LOOKED_AT)
        .order_by()
        .values("fingerprint")
        .annotate(
            count=Count("pk"),
            first_at=Min("created_at"),
            last_at=Max("created_at"),
            top=Max("pk"),
        )
        .order_by("-top")[:SHOWN]
    )
    found = list(rows)
    letters = DeadLetter.objects.defer("traceback").in_bulk([each["top"] for each in found])
    # One that was retried or discarded between the two queries takes its group along.
    return [
        Group(newest=letters[top], **each) for each in found if (top := each.pop("top")) in letters
    ]
