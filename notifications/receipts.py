"""What providers report later, taken in and applied.

    take     a batch of reports: those not known yet are matched, applied and kept as `Receipt` rows
    sweep    those that came too early, a moment later: their attempt has been settled by now
    give_up  messages of an unknown fate that no receipt came for in time

A report is applied in the transaction that keeps it. The messages it is about are locked and never
waited for: one that a worker has in hand, or another batch, is left to the sweep. So nothing here
can stop a worker or be stopped by one, and a batch is a handful of queries however long it is.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.db.models.functions import Now

from notifications import chain, conf, fates, inserts, sent_messages, suppressions
from notifications.judgement import find_kind
from notifications.message import Fate, Outcome, Report, Verdict
from notifications.models import Attempt, Notification, Receipt, State
from notifications.outbox import DeadLetterDraft
from notifications.recipients import permitted
from notifications.redaction import storable
from notifications.suppressions import Unwanted

logger = logging.getLogger("notifications.receipts")

BATCH = 500  # reports matched and applied together
FIRST_LOOK = 1.0  # seconds after which an early receipt is looked at again; then twice as long ...
LAST_LOOK = timedelta(days=1)  # ... until this long after it came

LONGEST_KEY = 200  # characters; a longer one is kept as its hash


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch of reports."""

    reports: int = 0
    known: int = 0  # they had come before
    applied: int = 0
    moved: int = 0  # messages that stand elsewhere now
    waiting: int = 0  # kept until their message is settled, or for nothing

    def __add__(self, other: Taken) -> Taken:
        return Taken(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


def take(provider: str, reports: Sequence[Report]) -> Taken:
    """Keep and apply what `provider` reports, in one transaction. Raises database errors: whoever
    brought the reports shall bring them again."""
    by_key = {_key(report): report for report in reports}
    taken = Taken(reports=len(reports), known=len(reports) - len(by_key))
    with transaction.atomic(using=_using()):
        # In the order of their keys: two batches with the same ones cannot wait for each other.
        for keys in _chunks(sorted(by_key)):
            taken += _take({key: by_key[key] for key in keys}, provider)
    if reports:  # that only repeat what is known: the storms of providers that try again
        level = logging.DEBUG if taken.known == taken.reports else logging.INFO
        logger.log(level, "receipts of %s: %s", provider, taken)
    return taken


def find_sender(providers: Collection[str], message_id: str) -> str | None:
    """Which of `providers` sent what is known to them as `message_id`; None for none so far."""
    if len(providers) < 2 or not message_id:
        return None
    attempts = Attempt.objects.using(_using()).filter(provider__in=providers)
    # Beside its value the condition of the index by which it is found.
    sent = attempts.filter(message_id=message_id[:200]).exclude(message_id="")
    return sent.values_list("provider", flat=True).first()


def sweep() -> Taken:
    """Apply what came before its attempt was settled. Costs one look at an index when there is
    nothing."""
    due = Receipt.objects.using(_using()).filter(look_at__lte=Now())
    if not due.exists():
        return Taken()
    with transaction.atomic(using=_using()):
        rows = due.select_for_update(skip_locked=True, no_key=True).annotate(now=Now())
        receipts = list(rows.order_by("look_at")[:BATCH])
        moved = _apply(receipts)
        for receipt in receipts:
            _plan_look(receipt, now=receipt.now)
        Receipt.objects.using(_using()).bulk_update(
            receipts, ["notification", "attempt", "applied", "look_at"]
        )
    applied = sum(receipt.applied for receipt in receipts)
    return Taken(applied=applied, moved=moved, waiting=len(receipts) - applied)


def give_up() -> int:
    """End what has been unknown for NOTIFICATIONS["UNKNOWN_AFTER"]; how many messages.

    A kind that is sent at most once leaves a dead letter, for a person to decide; one that has
    become at-least-once since goes again.
    """
    limit = conf.get("UNKNOWN_AFTER")
    if limit is None:
        return 0
    old = Notification.objects.filter(
        state=State.UNKNOWN, settled_at__lt=Now() - conf.parse_duration(limit)
    )
    ended = 0
    while ids := list(old.order_by("settled_at").values_list("pk", flat=True)[:BATCH]):
        with transaction.atomic(using=_using()):
            messages = list(sent_messages.lock(ids).values())
            for message in messages:
                kind = find_kind(message.row.kind)
                if kind is None or kind.at_most_once:
                    reason = f"the provider may have it, and told nothing within {limit}"
                    message.state, message.reason = State.DEAD, reason
                    message.dead = DeadLetterDraft(reason, code="unknown")
                    message.doubtful = True
                else:
                    message.state = State.PENDING
            ended += sent_messages.write(messages)
        if not messages:  # others have them locked
            break
    return ended


def forget_unmatched(older_than: timedelta) -> int:
    """Remove receipts about messages that nobody here sent; the others go with their message."""
    old = Receipt.objects.filter(notification=None, received_at__lt=Now() - older_than)
    return old.delete()[0]


# -- one batch ----------------------------------------------------------------------------------


def _take(by_key: dict[str, Report], provider: str) -> Taken:
    rows = Receipt.objects.using(_using())
    known = set(rows.filter(provider=provider, key__in=by_key).values_list("key", flat=True))
    fresh = {key: report for key, report in by_key.items() if key not in known}
    receipts = [_receipt(provider, key, report) for key, report in fresh.items()]
    moved = _apply(receipts)
    for receipt in receipts:
        _plan_look(receipt, now=None)
    suppressions.add(_unwanted_by_address(provider, fresh.values()))
    inserts.insert(receipts, using=_using(), ignore_conflicts=True, filled=False)
    applied = sum(receipt.applied for receipt in receipts)
    return Taken(0, len(known), applied, moved, len(receipts) - applied)


def _apply(receipts: Sequence[Receipt]) -> int:
    """Match `receipts`, move what they are about, and mark those that were applied; how many
    messages moved."""
    about = _match(receipts)
    messages = sent_messages.lock(set(about.values()))
    solved: set[Attempt] = set()  # they were unknown until now
    unwanted: list[Unwanted] = []
    refusals: dict[tuple[str, str | None], tuple[str, Outcome]] = {}
    for receipt in sorted(receipts, key=_strength):
        message = messages.get(about.get(id(receipt), 0))
        if message is None or message.row.started:  # nobody's, or a worker has it in hand
            continue
        attempt = message.attempt_of(receipt)
        if attempt is None:
            continue
        receipt.notification_id, receipt.attempt_id = message.row.pk, attempt.pk
        receipt.applied = True
        moved = sent_messages.hear(message, attempt, receipt)
        if moved and receipt.fate == Fate.FAILED and receipt.verdict == Verdict.HOLD:
            refusals[receipt.provider, message.row.kind if receipt.holds else None] = (
                message.row.channel,
                sent_messages.outcome_of(receipt),
            )
        if attempt.outcome == Verdict.UNKNOWN and receipt.fate != Fate.OPTED_OUT:
            failed = receipt.fate == Fate.FAILED
            attempt.outcome = receipt.verdict if failed else Verdict.ACCEPTED
            # Those that follow are about the same message: the answer that told its id was lost.
            attempt.provider, attempt.message_id = receipt.provider, receipt.message_id
            solved.add(attempt)
        unwanted += _unwanted_by_row(receipt, message.row)
    if solved:
        attempts = Attempt.objects.using(_using())
        attempts.bulk_update(solved, ["outcome", "provider", "message_id"])
    suppressions.add(unwanted)
    written = sent_messages.write(list(messages.values()))
    for (provider, kind), (channel, outcome) in refusals.items():
        if kind is None:
            chain.hold_provider(channel, provider, outcome)
        else:  # reports do not name the template
            chain.hold_template(channel, kind, replace(outcome, holds=f"of {kind or 'a message'}"))
    return written


def _match(receipts: Sequence[Receipt]) -> dict[int, int]:
    """The notification each receipt (by its `id()`) is about."""
    ids = {receipt.message_id for receipt in receipts} - {""}
    attempts = Attempt.objects.using(_using()).filter(message_id__in=ids).exclude(message_id="")
    of_message = {
        (provider, message_id): notification
        for provider, message_id, notification in attempts.filter(
            notification__isnull=False
        ).values_list("provider", "message_id", "notification_id")
    }
    about = {
        id(receipt): of_message.get((receipt.provider, receipt.message_id), receipt.about)
        for receipt in receipts
    }
    return {number: pk for number, pk in about.items() if pk is not None}


# -- one receipt --------------------------------------------------------------------------------


def _unwanted_by_row(receipt: Receipt, row: Notification) -> Iterator[Unwanted]:
    reason = suppressions.REASONS.get(Fate(receipt.suppress or receipt.fate))
    if reason is not None:
        address = permitted(row.channel, row.to) or row.to  # where it went in this environment
        yield Unwanted(row.channel, address, reason, f"receipt of {receipt.provider}")


def _unwanted_by_address(provider: str, reports: Iterable[Report]) -> Iterator[Unwanted]:
    """What reports say of addresses they name, whoever sent the message they are about."""
    try:
        channels = conf.provider(provider).channels
    except ImproperlyConfigured:  # of a provider that was in use once
        return
    for report in reports:
        reason = suppressions.REASONS.get(_suppressed(report) or report.fate)
        if reason is not None and report.to and len(channels) == 1:
            yield Unwanted(channels[0], report.to, reason, f"receipt of {provider}")


def _suppressed(report: Report) -> Fate | None:
    """Why a failure means never to write to the address again."""
    said = report.outcome is not None and report.outcome.suppress
    return report.suppress or (Fate.OPTED_OUT if said else None)


def _receipt(provider: str, key: str, report: Report) -> Receipt:
    outcome = report.outcome or Outcome(Verdict.PERMANENT)
    return Receipt(
        provider=provider,
        key=key,
        message_id=storable(report.message_id)[:200],
        about=report.notification_id if _is_id(report.notification_id) else None,
        fate=str(report.fate),
        code=storable(report.code or outcome.code)[:32],
        text=storable(report.text or outcome.text)[:500],
        verdict=str(outcome.verdict) if report.fate is Fate.FAILED else "",
        retry_after=outcome.retry_after,
        suppress=str(_suppressed(report) or ""),
        patient=outcome.patient,
        holds=outcome.holds[:100],
        at=report.at,
    )


def _is_id(number: int | None) -> bool:
    """Whether it may be a row's: others on the same account hand back what they like."""
    return number is not None and 0 < number < 2**63


def _key(report: Report) -> str:
    key = storable(report.key)
    return key if len(key) <= LONGEST_KEY else hashlib.blake2s(key.encode()).hexdigest()


def _strength(receipt: Receipt) -> int:
    return fates.STRENGTH.index(Fate(receipt.fate))


def _plan_look(receipt: Receipt, *, now: datetime | None) -> None:
    """When to look at it again; `now` is the database's, None for one that just came."""
    if receipt.applied:
        receipt.look_at = None
    elif now is None:
        receipt.look_at = Now() + timedelta(seconds=FIRST_LOOK)
    else:
        age = now - receipt.received_at
        receipt.look_at = None if age > LAST_LOOK else now + max(age, timedelta(seconds=FIRST_LOOK))


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), BATCH):
        yield keys[start : start + BATCH]


def _using() -> str:
    return router.db_for_write(Receipt)
