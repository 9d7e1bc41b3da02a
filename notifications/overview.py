"""How the messages fare that were asked for lately.

The newest LOOKED_AT rows are counted, by the primary key: what that takes does not grow with the
table. Where they do not reach back to the window's beginning, the tallies of the queues tell what
was sent and what was given up in it; of the last minutes they say too little, and the overview says
instead from when on it counts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max
from django.db.models.functions import TruncDay, TruncHour, TruncMinute
from django.utils import timezone

from notifications import conf, statistics
from notifications.models import Notification, State
from notifications.models.work import FAILED

LOOKED_AT = 100_000  # newest rows
QUARTER = timedelta(minutes=15)  # what one tally is about

SENT, LOST, WAITING, WITHHELD = "sent", "failed", "waiting", "withheld"

_FATES: Mapping[str, str] = {
    **dict.fromkeys((State.SENT, State.DELIVERED, State.READ, State.DONE), SENT),
    **dict.fromkeys((*FAILED, State.UNKNOWN), LOST),
    State.PENDING: WAITING,
    **dict.fromkeys((State.CANCELLED, State.EXPIRED, State.SUPPRESSED), WITHHELD),
}

_HAPPENED = {"accepted": SENT, "dead": LOST}


@dataclass(frozen=True, slots=True)
class Window:
    """How far back, and in which steps."""

    name: str
    length: timedelta
    step: timedelta
    trunc: type[Any]  # at most a step wide


WINDOWS = {
    window.name: window
    for window in (
        Window("1h", timedelta(hours=1), timedelta(minutes=1), TruncMinute),
        Window("24h", timedelta(hours=24), timedelta(hours=1), TruncHour),
        Window("7d", timedelta(days=7), timedelta(hours=6), TruncHour),
        Window("30d", timedelta(days=30), timedelta(days=1), TruncDay),
    )
}


@dataclass(slots=True)
class Tally:
    """Messages, by what became of them."""

    counts: Counter[str] = field(default_factory=Counter)

    @property
    def sent(self) -> int:
        """Accepted by a provider, or better."""
        return self.counts[SENT]

    @property
    def failed(self) -> int:
        """Dead, bounced, marked as spam, or of an unknown fate."""
        return self.counts[LOST]

    @property
    def waiting(self) -> int:
        """Not sent yet."""
        return self.counts[WAITING]

    @property
    def withheld(self) -> int:
        """Cancelled, expired or suppressed."""
        return self.counts[WITHHELD]

    @property
    def rate(self) -> float | None:
        """Sent, in per cent of what was sent or failed; None for none."""
        ended = self.sent + self.failed
        return 100 * self.sent / ended if ended else None


@dataclass(frozen=True, slots=True)
class Overview:
    """The messages that were asked for within a window."""

    window: Window
    total: Tally
    steps: list[tuple[datetime, Tally]]  # each from its beginning on, the oldest first
    channels: dict[str, Tally]
    since: datetime  # from when on they are counted
    whole: bool  # that is the window's beginning
    tallied: bool = False  # counted are those sent and given up in it, whenever they were asked for


def look(window: Window) -> Overview:
    """Count them; a few queries."""
    now = timezone.now()
    begin = now - window.length
    newest = Notification.objects.aggregate(pk=Max("pk"))["pk"] or 0
    whole = newest <= LOOKED_AT or _reaches(newest - LOOKED_AT, begin)
    if not whole and window.step >= QUARTER and (tallied := _look_at_tallies(window, begin, now)):
        return tallied
    rows = Notification.objects.filter(created_at__gt=begin, pk__gt=newest - LOOKED_AT).order_by()
    counted = list(
        rows.values("channel", "state", at=window.trunc("created_at")).annotate(count=Count("pk"))
    )
    total, steps = Tally(), {at: Tally() for at in _steps(window, begin, now)}
    channels: dict[str, Tally] = {}
    begins = list(steps)
    for each in counted:
        fate, count = _FATES[each["state"]], each["count"]
        place = _place(each["at"], begins)
        for tally in (total, steps[place], channels.setdefault(each["channel"], Tally())):
            tally.counts[fate] += count
    earliest = min((each["at"] for each in counted), default=begin)
    return Overview(
        window=window,
        total=total,
        steps=sorted(steps.items()),
        channels=dict(sorted(channels.items())),
        since=begin if whole else earliest,
        whole=whole,
    )


def _look_at_tallies(window: Window, begin: datetime, now: datetime) -> Overview | None:
    """The same by what happened; None where nobody tallies."""
    total, steps = Tally(), {at: Tally() for at in _steps(window, begin, now)}
    channels: dict[str, Tally] = {}
    begins = list(steps)
    names = {each.queue: name for name, each in conf.channels().items() if each.queue}
    for each in statistics.happened(
        window.length, window.trunc, queue__in=list(names), what__in=list(_HAPPENED)
    ):
        place, channel = _place(each["at"], begins), names[each["queue"]]
        for tally in (total, steps[place], channels.setdefault(channel, Tally())):
            tally.counts[_HAPPENED[each["what"]]] += each["count"]
    if not channels:
        return None
    return Overview(
        window=window,
        total=total,
        steps=sorted(steps.items()),
        channels=dict(sorted(channels.items())),
        since=begin,
        whole=True,
        tallied=True,
    )


def _steps(window: Window, begin: datetime, now: datetime) -> Iterable[datetime]:
    """The beginnings of all steps, in local time."""
    at = timezone.localtime(begin).replace(second=0, microsecond=0)
    if window.step >= timedelta(hours=1):
        at = at.replace(minute=0)
    if window.step >= timedelta(hours=6):
        at = at.replace(hour=0)
    while at <= now:
        if at + window.step > begin:
            yield at
        at += window.step


def _place(at: datetime, begins: Sequence[datetime]) -> datetime:
    """The step that `at` is in; what began before the first one belongs to that."""
    return begins[max(0, bisect_right(begins, at) - 1)]


def _reaches(pk: int, begin: datetime) -> bool:
    """Whether the row before those counted is older than the window."""
    rows = Notification.objects.filter(pk__lte=pk).order_by("-pk")
    before = rows.values_list("created_at", flat=True).first()
    return before is None or before <= begin
