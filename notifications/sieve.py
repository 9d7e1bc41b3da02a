"""Claimed rows are sifted: what may go out, what may not, and what must go out alone.

Nothing is written here; `delivery` settles what the sieve kept back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from notifications import conf, suppressions
from notifications.judgement import find_kind, judge, record
from notifications.message import Outcome, Verdict
from notifications.models import Attempt, Notification, State
from notifications.outbox import Settlement
from notifications.recipients import permitted

LAPSED = Outcome(Verdict.UNKNOWN, code="lease_lost", text="its worker died while sending it")


@dataclass(slots=True)
class Sifted:
    """The rows of one claim, each in one place."""

    fit: list[Notification] = field(default_factory=list)
    suspects: list[Notification] = field(default_factory=list)  # lost a lease before; go alone
    strange: list[Notification] = field(default_factory=list)  # of kinds this process lacks
    stale: str = ""  # why some of the settlements park their rows until a person looks
    settlements: list[Settlement] = field(default_factory=list)  # of those not to be sent
    attempts: list[Attempt] = field(default_factory=list)


def sift(rows: Sequence[Notification]) -> Sifted:
    """Sort rows just claimed; the address of a fit one is where it goes in this environment."""
    sifted = Sifted()
    lease = conf.get("LEASE")
    backlog_age = conf.get("BACKLOG_AGE")
    oldest = None if backlog_age is None else conf.parse_duration(backlog_age).total_seconds()
    for row in rows:
        claimed_at = row.due_at.timestamp() - lease  # the database's time
        if row.started:
            sifted.attempts.append(record(row, LAPSED))
            sifted.settlements.append(_lapse(row))
        elif row.expires_at is not None and row.expires_at.timestamp() <= claimed_at:
            sifted.settlements.append(
                Settlement(row, State.EXPIRED, False, reason="too late to be sent")
            )
        elif (
            oldest is not None
            and not row.attempts
            and claimed_at - row.wanted_at.timestamp() > oldest
        ):
            sifted.stale = f"older than {backlog_age}: waits for a person"
            sifted.settlements.append(
                Settlement(row, State.PENDING, False, after=None, reason=sifted.stale)
            )
        elif row.kind and find_kind(row.kind) is None:
            sifted.strange.append(row)
        elif (address := permitted(row.channel, row.to)) is None:
            sifted.settlements.append(
                Settlement(
                    row,
                    State.SUPPRESSED,
                    False,
                    reason="NOTIFICATIONS['RECIPIENTS'] does not allow this address in the "
                    f"{conf.environment()!r} environment",
                )
            )
        else:
            row.to = address
            (sifted.suspects if row.lapses else sifted.fit).append(row)
    _withhold(sifted)
    return sifted


def _withhold(sifted: Sifted) -> None:
    """Keep back what would go to an address that must not be written to."""
    unwanted = suppressions.blocked([*sifted.fit, *sifted.suspects])
    for rows in (sifted.fit, sifted.suspects) if unwanted else ():
        for row in [row for row in rows if row.pk in unwanted]:
            rows.remove(row)
            reason = unwanted[row.pk]
            sifted.settlements.append(Settlement(row, State.SUPPRESSED, False, reason=reason))


def _lapse(row: Notification) -> Settlement:
    """The former worker died after starting the row: the provider may have it."""
    settlement = judge(row, LAPSED)
    after = 0.0 if settlement.state is State.PENDING else settlement.after
    return replace(settlement, after=after, lapsed=True)
