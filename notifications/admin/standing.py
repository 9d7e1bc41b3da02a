"""How a row stands, in a word, a colour and a sentence: the answer to "did it arrive?"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import holds
from notifications.models import Notification, State, Task
from notifications.outbox import PARKED

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

NOTED = 90  # characters of a reason that a list shows


@dataclass(frozen=True, slots=True)
class Standing:
    """How one row stands."""

    word: StrOrPromise  # "retrying"
    tone: str  # good, wait, warn, bad or off: the colour of the word
    sentence: StrOrPromise  # the answer, in full
    note: str = ""  # when, or why


def judge(row: Notification | Task) -> Standing:
    """How `row` stands. Looks at the open holds for a row that waits."""
    state = State(row.state)
    if state is State.PENDING:
        return _judge_waiting(row)
    tone, sentence = _ENDS[state] if isinstance(row, Notification) else _TASK_ENDS[state]
    reason = "" if row.reason == state.value else row.reason  # "cancelled: cancelled"
    note = reason or (ago(row.settled_at) if row.settled_at else "")
    return Standing(state.label, tone, sentence, note)


def _judge_waiting(row: Notification | Task) -> Standing:
    now = timezone.now()
    if row.token is not None and row.due_at > now:
        return Standing(_("under way"), "wait", _("A worker has it right now."))
    known = holds.current()
    held = known.stops(row.queue) or known.kinds.get(getattr(row, "kind", ""))
    if row.due_at >= PARKED or held:
        reason = held or row.reason
        return Standing(_("held"), "warn", _("It waits until somebody lets it go on."), reason)
    if isinstance(row, Task) and row.result is not None:  # between two slices of long work
        return Standing(_("under way"), "wait", _("Part of it is done. It goes on by itself."))
    if row.due_at <= now:
        return Standing(_("waiting"), "wait", _("It is due and waits for a worker."), row.reason)
    when = soon(row.due_at)
    if row.attempts:
        note = f"{when}: {row.reason}" if row.reason else when
        return Standing(_("retrying"), "warn", _("Not yet. It is tried again by itself."), note)
    return Standing(_("scheduled"), "wait", _("Not yet. It is planned for later."), when)


_ENDS: Mapping[State, tuple[str, StrOrPromise]] = {
    State.SENT: ("good", gettext_lazy("Yes: the provider accepted it.")),
    State.DELIVERED: ("good", gettext_lazy("Yes: it was delivered.")),
    State.READ: ("good", gettext_lazy("Yes: it was read.")),
    State.DONE: ("good", gettext_lazy("Yes.")),
    State.UNKNOWN: (
        "warn",
        gettext_lazy("Nobody knows: the provider may have it. Sent again, it may arrive twice."),
    ),
    State.DEAD: ("bad", gettext_lazy("No. It gave up and waits for a person.")),
    State.CANCELLED: ("off", gettext_lazy("No. It was cancelled before it was sent.")),
    State.EXPIRED: ("off", gettext_lazy("No. It would have been too late to be useful.")),
    State.SUPPRESSED: ("off", gettext_lazy("No. This address must not be written to.")),
    State.BOUNCED: ("bad", gettext_lazy("No. The provider accepted it, and it came back.")),
    State.COMPLAINED: ("bad", gettext_lazy("Yes, and the recipient marked it as spam.")),
}

_TASK_ENDS: Mapping[State, tuple[str, StrOrPromise]] = {
    **_ENDS,
    State.DONE: ("good", gettext_lazy("It ran.")),
    State.DEAD: ("bad", gettext_lazy("It failed and waits for a person.")),
    State.CANCELLED: ("off", gettext_lazy("It was cancelled before it ran.")),
}


def chip(word: StrOrPromise, tone: str, note: str = "") -> SafeString:
    """A coloured word, and a short note below it."""
    coloured = format_html('<span class="ntf-chip ntf-{}">{}</span>', tone, word)
    return noted(coloured, Truncator(note).chars(NOTED))


def noted(text: StrOrPromise, note: str) -> SafeString:
    """A text, and a short note below it."""
    below = format_html('<small class="ntf-note">{}</small>', note) if note else ""
    return format_html("{}{}", text, below)


def lasting(seconds: float) -> str:
    """How long, in one unit: "3 minutes"."""
    if seconds < 60:
        return _("%(count)d s") % {"count": seconds}
    now = timezone.now()
    return timesince(now - timedelta(seconds=seconds), now, depth=1)


def ago(moment: datetime) -> str:
    """How long ago, in one unit: "3 minutes ago"."""
    distance = timezone.now() - moment
    if distance < timedelta(minutes=1):
        return _("%(count)d s ago") % {"count": max(0, distance.total_seconds())}
    return _("%(time)s ago") % {"time": timesince(moment, depth=1)}


def soon(moment: datetime) -> str:
    """How far ahead, in one unit: "in 3 minutes"."""
    now = timezone.now()
    if moment - now < timedelta(minutes=1):
        return _("in %(count)d s") % {"count": max(0, (moment - now).total_seconds())}
    return _("in %(time)s") % {"time": timesince(now, moment, depth=1)}


def age(moment: datetime) -> SafeString:
    """How long ago; the exact time shows when pointed at."""
    local = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(timespec="seconds"),
        date_format(local, "Y-m-d H:i:s"),
        ago(moment),
    )
