"""What Anymail's webhooks tell, of whichever service, as reports.

Anymail checks each service's signature and reads its events into one vocabulary (Anymail's
documentation, "Tracking sent mail status"). Its `message_id` is the one it gave when it sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from anymail.signals import AnymailTrackingEvent, EventType, RejectReason

from notifications.message import Fate, Outcome, Report, Verdict
from notifications.redaction import scrub

# What Anymail's views call their keys.
_KEYS = ("signing_secret", "webhook_signing_key", "webhook_key", "api_key_bytes")

_FATES = {
    EventType.QUEUED: Fate.SENT,
    EventType.SENT: Fate.SENT,
    EventType.DEFERRED: Fate.DEFERRED,
    EventType.DELIVERED: Fate.DELIVERED,
    EventType.AUTORESPONDED: Fate.DELIVERED,
    EventType.OPENED: Fate.READ,
    EventType.CLICKED: Fate.READ,
    EventType.COMPLAINED: Fate.COMPLAINED,
    EventType.UNSUBSCRIBED: Fate.OPTED_OUT,
    EventType.BOUNCED: Fate.FAILED,
    EventType.REJECTED: Fate.FAILED,
    EventType.FAILED: Fate.FAILED,
}

# A service refuses or bounces for reasons of its own, too; these alone are the address's.
_DEAD_ADDRESS = (RejectReason.INVALID, RejectReason.BOUNCED)
_UNWANTED = {
    RejectReason.SPAM: Fate.COMPLAINED,
    RejectReason.UNSUBSCRIBED: Fate.OPTED_OUT,
}


def read_event(event: AnymailTrackingEvent) -> Sequence[Report]:
    """The report in an event; none for one that says nothing about a message."""
    fate = _FATES.get(event.event_type)
    if fate is None:
        return []
    code = str(event.reject_reason or "")
    if fate is Fate.FAILED and code in _DEAD_ADDRESS:
        fate = Fate.BOUNCED
    failed = fate is Fate.FAILED
    return [
        Report(
            fate,
            message_id=str(event.message_id or ""),
            key=_key(event),
            at=event.timestamp,
            notification_id=read_id(event.metadata),
            to=str(event.recipient or ""),
            code=code,
            text=scrub(str(event.mta_response or event.description or "")),
            outcome=Outcome(Verdict.PERMANENT) if failed else None,
            suppress=_UNWANTED.get(code) if failed else None,
        )
    ]


def read_id(metadata: Any) -> int | None:
    """The notification's id that went along with the mail, if it came back."""
    given = metadata.get("notification_id") if isinstance(metadata, dict) else None
    return int(given) if isinstance(given, str) and given.isdecimal() else None


def lets_anybody_in(view_class: Any, **settings: Any) -> bool:
    """Whether one of Anymail's views, as a project has mounted it, believes whoever calls."""
    if not hasattr(view_class, "warn_if_no_basic_auth"):  # the project's own, or none
        return False
    try:
        view = view_class(**settings)
    except Exception:  # a setting is missing without which it answers nobody
        return False
    return not asks_for_proof(view)


def asks_for_proof(view: Any) -> bool:
    """Whether one of Anymail's webhook views believes only who proves to be the service.

    Anymail itself takes a key that is empty, as an unset variable leaves it, for a key; anybody can
    sign with that.
    """
    if view.basic_auth:
        return True
    empty = any(getattr(view, name, None) in ("", b"") for name in _KEYS)
    return not (view.warn_if_no_basic_auth or empty)


def _key(event: AnymailTrackingEvent) -> str:
    if event.event_id:
        return f"{event.event_type}:{event.event_id}"
    words = (event.event_type, event.message_id, event.recipient, event.timestamp)
    return hashlib.blake2s("\x1f".join(map(str, words)).encode()).hexdigest()
