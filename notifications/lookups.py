"""What became of messages whose answer was lost, asked of the provider.

Only those of kinds that are sent at most once wait for this: others were sent again at once. The
lost answer would have told the provider's id, so the provider is asked for all it took for the
address while the call lasted, and what no attempt of ours is known by is looked at:

    one with our sender and our very words  it is the message
    none that came from our sender          the provider does not have it, and it goes again
    anything else                           a receipt decides, or a person

A provider may change the words (a shortened link, another quote), so that other words from our
sender prove nothing. Ours are not kept: an attempt whose answer was lost has a keyed hash of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac

from notifications import conf, receipts
from notifications.message import Fate, Found, Outcome, Report, Verdict
from notifications.models import Attempt, Notification, State
from notifications.providers.base import Provider
from notifications.recipients import permitted

logger = logging.getLogger("notifications.lookups")

PATIENCE = timedelta(minutes=5)  # for receipts to come, and for the provider to list what it took
SLACK = timedelta(minutes=2)  # between the provider's clock and the database's
BATCH = 200  # messages asked for in one go
LENGTH = 32  # digits of a hash, which is compared with those of one address's messages


@dataclass(frozen=True, slots=True)
class Question:
    """One message that may have been taken between two times."""

    row: Any  # Notification
    attempt: Attempt
    provider: str
    since: datetime
    until: datetime


def mark(provider: Provider[Any], message: Any) -> str:
    """What `message` is found by at `provider`; empty where that cannot be asked."""
    try:
        name = provider.identify(message)
    except Exception as error:  # the outcome of the call counts for more
        logger.warning("%s cannot name its message: %s", provider.name, type(error).__name__)
        return ""
    return _hash(name, settings.SECRET_KEY) if name else ""


def providers() -> list[str]:
    """The names of the providers that left messages unknown and can be asked."""
    left = {question.provider for question in _questions()}
    return [
        name
        for name, provider in conf.providers().items()
        if name in left and type(provider).look_up is not Provider.look_up
    ]


def look_up(provider: Provider[Any]) -> dict[str, int]:
    """Ask `provider` for the messages it has left unknown; how many were "asked", "found" and
    "missing". Raises what its client raises; what was learned until then is kept."""
    questions = [each for each in _questions() if each.provider == provider.name]
    counts = {"asked": len(questions), "found": 0, "missing": 0}
    for question in questions:
        report = _ask(provider, question)
        if report is not None:
            receipts.take(provider.name, [replace(report, notification_id=question.row.pk)])
            counts["found" if report.message_id else "missing"] += 1
    return counts


def _questions() -> list[Question]:
    """What has been unknown long enough, the oldest first."""
    rows: Iterable[Any] = (
        Notification.objects.filter(
            state=State.UNKNOWN, settled_at__lt=Now() - PATIENCE, erased_at=None
        )
        .order_by("settled_at")
        .defer("content", "context")[:BATCH]
    )
    questions = []
    for row in rows:
        attempt = row.attempt_set.order_by("pk").last()
        if attempt is None:
            continue
        since = attempt.created_at - timedelta(milliseconds=attempt.milliseconds)
        name = attempt.provider
        if not name:  # its worker died, nobody knows when
            name, since = _only_provider(row.channel), row.created_at
        if name and permitted(row.channel, row.to) == row.to:
            until = attempt.created_at + SLACK
            questions.append(Question(row, attempt, name, since - SLACK, until))
    return questions


def _only_provider(channel: str) -> str:
    configured = conf.channels().get(channel)
    names = [each.name for each in configured.providers] if configured else []
    return names[0] if len(names) == 1 else ""


def _ask(provider: Provider[Any], question: Question) -> Report | None:
    told = provider.look_up(question.row.to, question.since, question.until)
    if told is None or _others_to_the_same(question):
        return None
    ids = {found.report.message_id for found in told}
    known = Attempt.objects.filter(provider=provider.name, message_id__in=ids)
    others = set(known.values_list("message_id", flat=True))
    left = [found for found in told if found.report.message_id not in others]
    same = [found for found in left if _is_marked(found, question.attempt.mark)]
    if len(same) == 1:
        return same[0].report
    if same or any(found.ours for found in left):
        return None
    outcome = Outcome(Verdict.LATER, code="missing", text="the provider does not have it")
    return Report(Fate.FAILED, "", key=f"missing:{question.attempt.pk}", outcome=outcome)


def _is_marked(found: Found, mark: str) -> bool:
    """Whether a message has the sender and the words that `mark` was made from."""
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return mark in {_hash(name, key) for name in found.names for key in keys}


def _hash(name: str, key: str | bytes) -> str:
    made = salted_hmac("notifications.lookups", name, secret=key, algorithm="sha256")
    return made.hexdigest()[:LENGTH]


def _others_to_the_same(question: Question) -> bool:
    """Whether another message to the address may be the one that the provider took."""
    row = question.row
    alike = Notification.objects.filter(channel=row.channel, to__iexact=row.to).exclude(pk=row.pk)
    return Attempt.objects.filter(
        notification__in=alike,
        outcome=Verdict.UNKNOWN,
        created_at__gte=question.since,
        provider__in=("", question.provider),
    ).exists()
