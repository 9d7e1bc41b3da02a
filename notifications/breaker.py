"""When a provider is left alone, and for how long, told by pure functions.

A circuit breaker for each provider, shared by all workers: FAILURES troubles in a row *open* it,
and its messages go to the next provider or wait. When its time is over it is *half open*: one
message probes it. A probe that gets through *closes* it; one that fails opens it for twice as
long. An open breaker is a `Hold` row, and what is counted are `Attempt` rows, so that nothing is
lost with a worker or with Redis. Acting on it is the business of `chain`.

What trips it is the provider's own trouble (`Outcome.theirs`): an answer about one message, even
"try later", shows a provider at work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from notifications.message import Outcome, Verdict

REFUSED = 300.0  # seconds until a provider that refuses everything is probed, unless it says so
LONGEST_WAIT = 3600.0  # seconds; whatever a provider asks for


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """NOTIFICATIONS["BREAKER"], parsed."""

    failures: int = 3  # troubles in a row that open it
    base: float = 5.0  # seconds it is open at first; doubled by each vain probe
    longest: float = 60.0  # seconds; it is never open longer, unless the provider asks for it
    patience: float = 86_400.0  # seconds a message is kept through outages without losing attempts

    def __post_init__(self) -> None:
        if self.failures < 1 or self.base <= 0 or self.longest < self.base or self.patience < 0:
            raise ValueError(
                "FAILURES must be 1 or more, BASE above 0, LONGEST at least BASE and PATIENCE 0 "
                "or more"
            )


def is_trouble(outcome: Outcome) -> bool:
    """Whether an outcome tells against the provider, and not against the message."""
    if outcome.verdict is Verdict.HOLD:
        return not outcome.holds
    return outcome.theirs and outcome.verdict in (Verdict.LATER, Verdict.UNKNOWN)


def is_certain(outcome: Outcome) -> bool:
    """Whether this trouble alone says that the next message will fare no better."""
    return outcome.verdict is Verdict.HOLD or outcome.retry_after is not None


def trips(recent: Iterable[bool], policy: BreakerPolicy) -> bool:
    """Whether troubles (True) among the `recent` attempts, newest first, open the breaker."""
    newest = [trouble for trouble, _ in zip(recent, range(policy.failures), strict=False)]
    return len(newest) == policy.failures and all(newest)


def open_seconds(outcome: Outcome, *, probes: int, policy: BreakerPolicy) -> float:
    """Seconds to leave the provider alone after `outcome` and `probes` vain probes."""
    if outcome.retry_after is not None:
        return min(outcome.retry_after, LONGEST_WAIT)
    if outcome.verdict is Verdict.HOLD:
        return REFUSED
    return min(policy.base * 2.0 ** min(probes, 30), policy.longest)
