"""The values that cross the border between the flow, the channels and the providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with an email."""

    name: str  # file name as the recipient sees it
    content: bytes
    mimetype: str = "application/octet-stream"
    content_id: str = ""  # of a picture that the HTML shows in place: <img src="cid:...">


@dataclass(frozen=True, slots=True)
class Email:
    """One composed mail to one recipient, ready for any email provider."""

    id: int  # the Notification row's primary key, sent as X-Notification-Id
    to: str  # envelope recipient: exactly one bare address
    sender: str  # From header, "Name <address>" or a bare address
    subject: str
    text: str  # plain text body, may be empty when html is not
    html: str = ""
    message_id: str = ""  # stable over all attempts, with angle brackets
    to_header: str = ""  # To header when it differs from `to` ("Name <address>", several addresses)
    cc_header: str = ""
    reply_to: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    attachments: tuple[Attachment, ...] = ()
    category: str = ""  # the kind's name, for providers with tags


@dataclass(frozen=True, slots=True)
class Note:
    """One short message as an inbox or a telephone's screen shows it."""

    id: int  # the Notification row's primary key
    to: str  # address on its channel
    title: str  # one line
    text: str  # plain, may be empty
    link: str = ""  # where it leads: http(s), or a path of the site; empty for nowhere
    type: str = ""  # the kind's name, for icons and filters


class Verdict(StrEnum):
    """What one provider call came to; each word tells what may be done next."""

    ACCEPTED = "accepted"  # the provider took it over
    LATER = "later"  # surely not taken; the same call may succeed later
    PERMANENT = "permanent"  # this message will never be taken
    HOLD = "hold"  # nothing will be taken until a person or time mends it
    UNKNOWN = "unknown"  # the provider may have it


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one provider call. `text` is safe to store: no secret, body or address."""

    verdict: Verdict
    code: str = ""  # the provider's own code: "250", "535", "131026"
    text: str = ""  # one redacted line for people
    message_id: str = ""  # the provider's id of an accepted message
    retry_after: float | None = None  # seconds the provider asked us to wait
    theirs: bool = False  # the provider's trouble, not the message's: the next provider may try
    suppress: bool = False  # never write to this address again
    holds: str = ""  # of HOLD: the template that is refused, where it is not everything
    error: str = ""  # class of the exception, for grouping dead letters
    traceback: str = ""  # redacted stack trace, for our own errors only

    @property
    def accepted(self) -> bool:
        return self.verdict is Verdict.ACCEPTED


class Fate(StrEnum):
    """What a provider tells later about a message it took."""

    SENT = "sent"  # it went on its way; no news beyond the acceptance
    DEFERRED = "deferred"  # the receiving side wants it later; the provider goes on trying
    DELIVERED = "delivered"
    READ = "read"  # read, opened or clicked
    BOUNCED = "bounced"  # the address does not take mail
    COMPLAINED = "complained"  # reported as spam
    OPTED_OUT = "opted_out"  # wants no more of these; says nothing about this message
    FAILED = "failed"  # given up by the provider; `Report.outcome` tells what may be done next


@dataclass(frozen=True, slots=True)
class Report:
    """One thing a provider told about a message: the raw material of a receipt."""

    fate: Fate
    message_id: str  # the provider's, as in `Outcome.message_id`
    key: str  # the same whenever the same report comes again, unique for the provider
    at: datetime | None = None  # by the provider's clock, aware
    notification_id: int | None = None  # if the provider hands back the id it was given
    to: str = ""  # the address, where the report tells; never stored
    code: str = ""
    text: str = ""  # safe to store, as in `Outcome`
    outcome: Outcome | None = None  # of FAILED: as if the call had been answered so
    suppress: bool = False  # never write to this address again
