"""Claimed rows are sifted: what may go out, what may not, and what must go out alone.

Nothing is written here; `delivery` settles what the sieve kept back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from django.db import router
from django.db.models.functions import Now

from notifications import conf, suppressions
from notifications.judgement import find_kind, judge, record
from notifications.message import Outcome, Verdict
from notifications.models import Attempt, Notification, Receipt, State
from notifications.outbox import Settlement
from notifications.recipients import permitted

LAPSED = Outcome(Verdict.UNKNOWN, code="lease_lost", text="its worker died while sending it")
STALLED = Outcome(
    Verdict.PERMANENT, code="lease_lost", text="its workers died, or took too long, preparing it"
)

# How many rows whose claims ran out before they were started may be under way together: after the
# first time, the second, and so on. Whatever stops a worker is alone soon, its neighbours are free.
COMPANY = (25, 5, 1, 1)
HEARING = 5.0  # seconds a message of a dead worker waits for a receipt that has come to be applied


def company(row: Notification) -> int:
    """How many rows, itself included, a suspect may be under way with."""
    return 1 if row.lapses else COMPANY[row.stalls - 1]


@dataclass(slots=True)
class Sifted:
    """The rows of one claim, each in one place."""

    fit: list[Notification] = field(default_factory=list)
    suspects: list[Notification] = field(default_factory=list)  # lost a lease before: see `company`
    strange: list[Notification] = field(default_factory=list)  # of kinds this process lacks
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
        elif row.stalls > len(COMPANY):
            sifted.attempts.append(record(row, STALLED))
            sifted.settlements.append(judge(row, STALLED))
        elif row.expires_at is not None and row.expires_at.timestamp() <= claimed_at:
            sifted.settlements.append(
                Settlement(row, State.EXPIRED, False, reason="too late to be sent")
            )
        elif (
            oldest is not None
            and not row.attempts
            and claimed_at - row.wanted_at.timestamp() > oldest
        ):
            why = f"older than {backlog_age}: waits for a person"
            sifted.settlements.append(Settlement(row, State.PENDING, False, after=None, reason=why))
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
            (sifted.suspects if row.lapses or row.stalls else sifted.fit).append(row)
    _withhold(sifted)
    _hear_first(sifted)
    return sifted


def _withhold(sifted: Sifted) -> None:
    """Keep back what would go to an address that must not be written to."""
    unwanted = suppressions.blocked([*sifted.fit, *sifted.suspects])
    for rows in (sifted.fit, sifted.suspects) if unwanted else ():
        for row in [row for row in rows if row.pk in unwanted]:
            rows.remove(row)
            reason = unwanted[row.pk]
            sifted.settlements.append(Settlement(row, State.SUPPRESSED, False, reason=reason))


def _hear_first(sifted: Sifted) -> None:
    """Let receipts about messages of a dead worker be applied before these go again: they came
    while it had the messages in hand, and may tell that they have arrived."""
    lapsed = [each.row.pk for each in sifted.settlements if each.lapsed]
    if not lapsed:
        return
    waiting = Receipt.objects.using(router.db_for_write(Receipt)).filter(
        look_at__isnull=False, about__in=lapsed
    )
    told = set(waiting.values_list("about", flat=True))
    if told:
        waiting.update(look_at=Now() + timedelta(seconds=1))  # they are settled by then
    sifted.settlements = [
        replace(each, after=HEARING)
        if each.row.pk in told and each.state is State.PENDING
        else each
        for each in sifted.settlements
    ]


def _lapse(row: Notification) -> Settlement:
    """The former worker died after starting the row: the provider may have it."""
    settlement = judge(row, LAPSED)
    after = 0.0 if settlement.state is State.PENDING else settlement.after
    return replace(settlement, after=after, lapsed=True)
