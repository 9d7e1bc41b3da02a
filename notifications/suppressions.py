"""Addresses that must not be written to: told by receipts, by hand, or by a provider's lists.

An address is kept as a keyed hash. The key is NOTIFICATIONS["SUPPRESSION_KEY"] or else SECRET_KEY;
what was hashed with one of SECRET_KEY_FALLBACKS is still found.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from django.conf import settings
from django.db import router

from notifications import conf, inserts
from notifications.errors import InvalidAddress, UnknownChannel
from notifications.message import Fate
from notifications.models import Notification, Priority, Suppression
from notifications.redaction import mask

Reason = Suppression.Reason

# What a provider's news of an address mean for writing to it.
REASONS = {
    Fate.BOUNCED: Reason.BOUNCE,
    Fate.COMPLAINED: Reason.COMPLAINT,
    Fate.OPTED_OUT: Reason.OPT_OUT,
}


@dataclass(frozen=True, slots=True)
class Unwanted:
    """An address not to be written to any more."""

    channel: str
    address: str
    reason: Reason
    source: str  # who says so: "receipt of sendgrid"


def blocked(rows: Sequence[Notification]) -> dict[int, str]:
    """The primary keys of those of `rows` that must not go out, and why; one query.

    Critical messages go out in spite of an opt-out, never in spite of anything else.
    """
    wanted: dict[tuple[str, str], list[Notification]] = {}
    for row in rows:
        for digest in _digests(row.channel, row.to):
            wanted.setdefault((row.channel, digest), []).append(row)
    if not wanted:
        return {}
    found = Suppression.objects.filter(digest__in={digest for _channel, digest in wanted})
    refused: dict[int, str] = {}
    for one in found.only("channel", "digest", "reason", "source"):
        for row in wanted.get((one.channel, one.digest), ()):
            if one.reason != Reason.OPT_OUT or row.priority != Priority.CRITICAL:
                refused[row.pk] = f"{Reason(one.reason).label} ({one.source})"
    return refused


def read_outcome(row: Notification, provider: str) -> Unwanted:
    """What a call says that was answered with `Outcome.suppress`: the recipient has opted out."""
    return Unwanted(row.channel, row.to, Reason.OPT_OUT, f"answer of {provider}")


def add(unwanted: Iterable[Unwanted], *, by: int | None = None) -> None:
    """Suppress these addresses, by the user with the primary key `by`; known ones stay as they are.

    Sorted, so that two transactions which add the same ones cannot wait for each other.
    """
    rows = {
        (one.channel, one.reason, _digests(one.channel, _clean(one.channel, one.address))[0]): one
        for one in unwanted
        if one.address and not _drop(one)
    }
    inserts.insert(
        [
            Suppression(
                channel=channel,
                digest=digest,
                masked=mask(one.address)[:64],
                reason=str(reason.value),
                source=one.source[:100],
                by_id=by,
            )
            for (channel, reason, digest), one in sorted(rows.items(), key=lambda pair: pair[0])
        ],
        using=router.db_for_write(Suppression),
        ignore_conflicts=True,
        filled=False,
    )


def find(channel: str, address: str) -> list[Suppression]:
    """The suppressions of one address."""
    digests = _digests(channel, _clean(channel, address))
    return list(Suppression.objects.filter(channel=channel, digest__in=digests))


def _clean(channel: str, address: str) -> str:
    """The address as rows have it."""
    with suppress(InvalidAddress, UnknownChannel):  # a report may hold what we would not send to
        return conf.channel(channel).channel.clean(address)
    return address.strip()


def _drop(one: Unwanted) -> bool:
    with suppress(UnknownChannel):
        return conf.channel(one.channel).channel.drop(one.address)
    return False


def _digests(channel: str, address: str) -> list[str]:
    """The address hashed with the present key, and with each former one."""
    text = f"{channel}\x1f{address.casefold()}".encode()
    keys = [conf.get("SUPPRESSION_KEY") or settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [_hash(key, text) for key in keys]


def _hash(key: str | bytes, text: bytes) -> str:
    secret = key if isinstance(key, bytes) else key.encode()
    # A purpose of its own in the key: the hash is worth nothing for whatever else SECRET_KEY signs.
    return hmac.digest(b"notifications.suppressions" + secret, text, "sha256").hex()
