"""Whether to try again, told by one pure function.

The life of a failing message: an attempt fails -> its `Outcome` is judged here -> it goes again
after a growing wait, or waits for a hold to be lifted, or gives up for a reason. Acting on the
decision is the business of `delivery` and `outbox`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from notifications.message import Outcome, Verdict

Backoff = Literal["exponential", "fixed"]

# Seconds until a message that may have arrived, and whose tries are used up, goes again while no
# provider works: an outage kills nothing, and each try may be one copy more.
RARELY = 3600.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently something is tried again."""

    retries: int = 3  # after the first attempt
    backoff: Backoff = "exponential"
    base: float = 2.0  # seconds before the first retry
    jitter: float = 0.1  # lengthens each wait by up to this share, never shortens it
    longest: float = 86_400.0  # seconds; no wait is longer

    def __post_init__(self) -> None:
        if self.retries < 0 or self.base < 0 or self.jitter < 0 or self.longest < 0:
            raise ValueError("retries, base, jitter and longest must not be negative")
        if self.backoff not in ("exponential", "fixed"):
            raise ValueError(f'backoff must be "exponential" or "fixed", not {self.backoff!r}')

    def wait(self, attempt: int, *, draw: Callable[[], float] = random.random) -> float:
        """Seconds to wait after attempt number `attempt` (1 is the first) failed."""
        wait = self.base * 2 ** (attempt - 1) if self.backoff == "exponential" else self.base
        return min(wait * (1 + self.jitter * draw()), self.longest)

    def with_overrides(self, changes: dict[str, Any] | None) -> RetryPolicy:
        """This policy with the given fields changed."""
        if not changes:
            return self
        fields = {name: getattr(self, name) for name in self.__slots__}
        return RetryPolicy(**{**fields, **changes})


@dataclass(frozen=True, slots=True)
class Again:
    """Try again `after` seconds."""

    after: float
    reason: str = field(default="", compare=False)  # what failed, for people


@dataclass(frozen=True, slots=True)
class Wait:
    """Burn no attempt: what it needs is held, for `reason`; `after` seconds at least."""

    reason: str
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop for `reason`; `state` is the row's end."""

    reason: str
    state: Literal["dead", "expired", "unknown", "suppressed"] = "dead"


def decide(
    outcome: Outcome,
    *,
    attempt: int,
    policy: RetryPolicy,
    expires_in: float | None = None,
    at_most_once: bool = False,
    held: bool = False,
    draw: Callable[[], float] = random.random,
) -> Again | Wait | GiveUp:
    """What follows a failed `outcome` of attempt number `attempt` (1 is the first).

    `expires_in` is the seconds left until the message is too late to be useful. `held` says that
    nothing can be sent now for reasons that are not the message's.
    """
    waits = held or outcome.patient
    if outcome.verdict is Verdict.HOLD or (waits and outcome.verdict is Verdict.LATER):
        # Where a hold stands in its way, that says how long.
        return Wait(_say(outcome), (outcome.retry_after or 0.0) if outcome.patient else 0.0)
    if outcome.verdict is Verdict.PERMANENT:
        # Who has opted out, or is gone, is no matter for a person to mend.
        return GiveUp(reason=_say(outcome), state="suppressed" if outcome.suppress else "dead")
    if outcome.verdict is Verdict.UNKNOWN and at_most_once:
        return GiveUp(reason=_say(outcome), state="unknown")
    if attempt > policy.retries:
        if held and outcome.verdict is Verdict.UNKNOWN:
            return Wait(_say(outcome), RARELY)
        return GiveUp(reason=f"{_say(outcome)} (attempt {attempt} of {policy.retries + 1})")
    after = max(policy.wait(attempt, draw=draw), outcome.retry_after or 0.0)
    if expires_in is not None and after >= expires_in:
        return GiveUp(
            reason=f"would expire before the next attempt: {_say(outcome)}", state="expired"
        )
    return Again(after=after, reason=_say(outcome))


def _say(outcome: Outcome) -> str:
    words = [outcome.code, outcome.text or outcome.error or str(outcome.verdict)]
    return " ".join(word for word in words if word)
