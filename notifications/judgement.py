"""What follows an outcome: its row's settlement and the attempt that is remembered."""

from __future__ import annotations

from dataclasses import replace

from notifications import conf
from notifications.breaker import is_trouble
from notifications.errors import UnknownKind
from notifications.kinds import Kind, get_kind
from notifications.message import Outcome, Verdict
from notifications.models import Attempt, Notification, State
from notifications.outbox import DeadLetterDraft, Settlement
from notifications.redaction import storable
from notifications.retries import Again, GiveUp, Wait, decide


def judge(
    row: Notification, outcome: Outcome, *, held: bool = False, pause: float = 0.0
) -> Settlement:
    """Where a claimed row goes after an attempt that was not accepted.

    `held`: no provider can take it now, and it waits without losing an attempt; `pause` seconds at
    least.
    """
    claimed_at = row.due_at.timestamp() - conf.get("LEASE")  # the database's time
    match conclude(row, outcome, attempt=row.attempts + 1, now=claimed_at, held=held):
        case Again(after, reason):
            return Settlement(row, State.PENDING, after=after, reason=reason)
        case Wait(reason, after):
            after = after if outcome.patient else max(after, pause)
            return Settlement(row, State.PENDING, False, after=after, reason=reason)
        case GiveUp(reason, "dead"):
            draft = DeadLetterDraft(reason, outcome.error, outcome.code, outcome.traceback)
            return Settlement(row, State.DEAD, reason=reason, dead=draft)
        case GiveUp(reason, state):
            return Settlement(row, State(state), reason=reason)


def conclude(
    row: Notification, outcome: Outcome, *, attempt: int, now: float, held: bool = False
) -> Again | Wait | GiveUp:
    """What follows when attempt number `attempt` of `row` failed; `now` is the database's time, in
    seconds of the epoch.

    A message that has waited without losing attempts for NOTIFICATIONS["BREAKER"]["PATIENCE"]
    loses them like any other: it may itself be what the provider cannot bear.
    """
    if now - row.wanted_at.timestamp() > conf.breaker_policy().patience:
        held = False
        outcome = replace(outcome, patient=False)
        if outcome.verdict is Verdict.HOLD:
            outcome = replace(outcome, verdict=Verdict.LATER)
    kind = find_kind(row.kind)
    policy = (kind and kind.retry) or conf.retry_policy()
    decision = decide(
        outcome,
        attempt=attempt,
        policy=policy.with_overrides(row.policy_changes),
        expires_in=None if row.expires_at is None else row.expires_at.timestamp() - now,
        at_most_once=bool(kind and kind.at_most_once),
        held=held,
    )
    if isinstance(decision, GiveUp) and decision.state == "expired" and row.fallback:
        return replace(decision, state="dead")  # the next channel may still be in time
    return decision


def record(
    row: Notification,
    outcome: Outcome,
    *,
    provider: str = "",
    milliseconds: int = 0,
    mark: str = "",
) -> Attempt:
    """The attempt to be written for an outcome; `provider` is empty if none was called, and `mark`
    if it cannot be asked what it took."""
    return Attempt(
        notification_id=row.pk,
        number=row.attempts + 1,
        provider=provider,
        outcome=str(outcome.verdict),
        code=outcome.code[:32],
        text=outcome.text[:500],
        message_id=outcome.message_id[:200],
        mark=mark,
        theirs=is_trouble(outcome),
        milliseconds=milliseconds,
    )


def make_storable(outcome: Outcome) -> Outcome:
    """The outcome as every database can keep it, whatever a provider made of it."""
    return replace(
        outcome,
        code=storable(outcome.code),
        text=storable(outcome.text),
        message_id=storable(outcome.message_id),
        holds=storable(outcome.holds),
        error=storable(outcome.error),
        traceback=storable(outcome.traceback),
    )


def find_kind(name: str) -> type[Kind] | None:
    """The kind called `name`; None for no name and for one unknown in this process."""
    try:
        return get_kind(name) if name else None
    except UnknownKind:
        return None
