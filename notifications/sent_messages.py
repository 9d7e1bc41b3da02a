"""Messages that had been sent, moved on by what is told about them later.

lock   the messages that receipts are about, with their attempts
hear   what each receipt says; nothing is written
write  those that stand elsewhere now, one UPDATE for all that go the same way
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from typing import Any

from django.db import models, router
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now

from notifications import fates, inserts, signals
from notifications.fallback import UNREACHED, follow
from notifications.judgement import conclude
from notifications.message import Fate, Outcome, Verdict
from notifications.models import Attempt, DeadLetter, Notification, Receipt, State
from notifications.models.work import may_move
from notifications.outbox import HAPPENINGS, DeadLetterDraft, Settlement, bury
from notifications.retries import Again, GiveUp

_TAKEN = (State.SENT, State.DELIVERED, State.READ, State.BOUNCED, State.COMPLAINED)


@dataclass(eq=False, slots=True)
class SentMessage:
    """A locked message, and what is known of its attempts."""

    row: Any  # Notification, annotated with `now` and `has_content`
    attempts: list[Attempt]  # the oldest first
    state: State
    reason: str = ""
    after: float = 0.0  # seconds until it goes again
    counted: bool = True  # of one that goes again: whether the attempt that failed counts
    dead: DeadLetterDraft | None = None
    doubtful: bool = False  # it may have arrived all the same: no other channel takes over

    def attempt_of(self, receipt: Receipt) -> Attempt | None:
        """The attempt a receipt is about: by the provider's id, else the one left unknown."""
        for each in reversed(self.attempts):
            if each.provider == receipt.provider and each.message_id == receipt.message_id != "":
                return each
        for each in reversed(self.attempts):
            if each.outcome == Verdict.UNKNOWN and each.provider in (receipt.provider, ""):
                return each
        return None


def lock(ids: Collection[int]) -> dict[int, SentMessage]:
    """The messages with these primary keys that nobody else has locked and nobody erased."""
    if not ids:
        return {}
    rows = (
        Notification.objects.using(_using())
        .filter(pk__in=ids, erased_at=None)  # nothing is left that could go again
        .order_by("pk")
        .select_for_update(skip_locked=True, no_key=True)
        .annotate(
            now=Now(),
            has_content=models.ExpressionWrapper(
                Q(content__isnull=False), output_field=models.BooleanField()
            ),
        )
        .defer("content", "context")
    )
    messages = {row.pk: SentMessage(row, [], State(row.state)) for row in rows}
    attempts = Attempt.objects.using(_using()).filter(notification_id__in=messages).order_by("pk")
    for attempt in attempts.only("notification_id", "provider", "outcome", "message_id"):
        assert attempt.notification_id is not None
        messages[attempt.notification_id].attempts.append(attempt)
    return messages


# -- what is told ------------------------------------------------------------------------------


def hear(message: SentMessage, attempt: Attempt, receipt: Receipt) -> bool:
    """Let a receipt move its message; whether it did."""
    before, fate = message.state, Fate(receipt.fate)
    latest = attempt.pk == message.attempts[-1].pk
    unknown = attempt.outcome == Verdict.UNKNOWN
    if not fates.counts(message.state, fate, latest=latest, unknown=unknown):
        return False
    if fate is Fate.FAILED:
        _fail(message, outcome_of(receipt))
    elif (target := fates.heading(message.state, fate)) is not None:
        message.state = target
        told = " ".join(word for word in (receipt.code, receipt.text) if word)
        message.reason = told if fate is Fate.BOUNCED else ""
    return message.state is not before


def _fail(message: SentMessage, outcome: Outcome) -> None:
    """The provider gave up: the message goes again or dies, as if the call had been answered so."""
    row = message.row
    if not row.kind and not row.has_content:  # it was erased when the provider accepted it
        outcome = replace(outcome, verdict=Verdict.PERMANENT)
    decision = conclude(row, outcome, attempt=row.attempts, now=row.now.timestamp())
    end = State(decision.state) if isinstance(decision, GiveUp) else State.PENDING
    if end is message.state or not may_move(message.state, end):
        return  # it goes again anyway, or has arrived
    message.state, message.reason = end, decision.reason
    if not isinstance(decision, GiveUp):
        message.after = decision.after
        message.counted = isinstance(decision, Again)
    elif end is State.DEAD:
        message.dead = DeadLetterDraft(decision.reason, outcome.error, outcome.code)


def outcome_of(receipt: Receipt) -> Outcome:
    """What a failure told by a receipt stands for, as if the call had been answered so."""
    return Outcome(
        Verdict(receipt.verdict or Verdict.PERMANENT),
        code=receipt.code,
        text=receipt.text,
        retry_after=receipt.retry_after,
        suppress=bool(receipt.suppress),
        patient=receipt.patient,
        holds=receipt.holds,
    )


# -- writing ------------------------------------------------------------------------------------


def write(messages: Sequence[SentMessage]) -> int:
    """Move those that stand elsewhere now, with one UPDATE for all that go the same way."""
    moving = [message for message in messages if message.state != message.row.state]
    moved = 0
    for (old, new, _counted), group in groupby(sorted(moving, key=_way), key=_way):
        alike = list(group)
        moved += _move(old, new, alike)
        _tell(old, State(new), alike)
    unreached = [
        each
        for each in moving
        if each.state in UNREACHED and each.row.fallback and not each.doubtful
    ]
    followed = {each.row.pk for each in unreached if follow(each.row, _using())}
    dead = [(each.row, each.dead) for each in moving if each.dead and each.row.pk not in followed]
    inserts.insert(
        [bury(Settlement(row, State.DEAD, False), draft) for row, draft in dead],
        using=_using(),
        ignore_conflicts=True,
        filled=False,
    )
    risen = [message.row.pk for message in moving if message.row.state == State.DEAD]
    if risen:
        DeadLetter.objects.using(_using()).filter(notification__in=risen).delete()
    return moved


def _move(old: str, new: str, group: Sequence[SentMessage]) -> int:
    assert may_move(old, new), (old, new)
    changes: dict[str, Any] = {
        "state": new,
        "token": None,
        "reason": _each({each.row.pk: each.reason[:300] for each in group}, models.CharField()),
    }
    if new == State.PENDING:
        waits = {each.row.pk: timedelta(seconds=each.after) for each in group}
        changes |= {"due_at": Now() + _each(waits, models.DurationField()), "settled_at": None}
        if not group[0].counted:
            changes["attempts"] = F("attempts") - 1
    else:
        changes["settled_at"] = Now()
    if new in _TAKEN:
        changes["content"] = None
    rows = Notification.objects.using(_using()).filter(
        pk__in=[each.row.pk for each in group], state=old, started=False
    )
    return rows.update(**changes)


def _tell(old: str, new: State, group: Sequence[SentMessage]) -> None:
    happening = HAPPENINGS.get(new, signals.failed)
    if happening is signals.completed and old in _TAKEN:
        happening = signals.progress
    for each in group:
        happening.tell_rows([each.row], using=_using(), state=new.value, reason=each.reason or None)


def _each(values: dict[int, Any], field: models.Field[Any, Any]) -> Any:
    """The value of each row by its primary key, as one expression."""
    if len(set(values.values())) == 1:
        return Value(next(iter(values.values())), output_field=field)
    cases = [When(pk=pk, then=Value(value, output_field=field)) for pk, value in values.items()]
    return Case(*cases, output_field=field)


def _way(message: SentMessage) -> tuple[str, str, bool]:
    return message.row.state, message.state, message.counted


def _using() -> str:
    return router.db_for_write(Notification)
