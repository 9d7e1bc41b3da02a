"""The values that cross the border between the flow, the channels and the providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

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


@dataclass(frozen=True, slots=True)
class Sms:
    """One text message to one phone."""

    id: int  # the Notification row's primary key; comes back in reports
    to: str  # E.164, "+12025550123"
    text: str
    category: str = ""  # the kind's name

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Push:
    """One short message to one browser."""

    id: int  # the Notification row's primary key
    to: str  # its address: the push service's host, and the subscription's id
    # Whoever knows these can write to the browser: they are in no repr, log, preview or answer.
    endpoint: str = field(repr=False)  # where it is posted
    p256dh: str = field(repr=False)  # the browser's public key, and ...
    auth: str = field(repr=False)  # ... its shared secret, both in base64url
    title: str
    text: str
    link: str = ""  # absolute
    type: str = ""  # the kind's name
    urgency: str = "normal"  # RFC 8030, 5.3: very-low, low, normal or high

    def __str__(self) -> str:
        return "\n".join(filter(None, (self.title, self.text, self.link)))


@dataclass(frozen=True, slots=True)
class Parameter:
    """What stands in one placeholder of a template."""

    value: str  # one line
    name: str = ""  # of a named placeholder; empty for {{1}}, {{2}}, …, in their order


@dataclass(frozen=True, slots=True)
class Media:
    """A picture, a video or a document at the head of a WhatsApp message."""

    type: Literal["image", "video", "document"]
    link: str  # https, where the provider fetches it
    filename: str = ""  # of a document, as the recipient sees it


ButtonType = Literal["url", "quick_reply", "copy_code"]


@dataclass(frozen=True, slots=True)
class Button:
    """The parameter of one button."""

    index: int  # the button's place in the template, from 0
    type: ButtonType
    value: str  # the end of the URL, the payload of the reply, or the code


@dataclass(frozen=True, slots=True)
class WhatsApp:
    """One template message to one phone, ready for any WhatsApp provider."""

    id: int  # the Notification row's primary key; comes back in reports
    to: str  # E.164, "+12025550123"
    template: str  # its name at the provider
    language: str  # the template's, as the provider writes it: "en_US", "de"
    header: Parameter | Media | None = None
    body: tuple[Parameter, ...] = ()
    buttons: tuple[Button, ...] = ()
    category: str = ""  # the kind's name
    difference: str = ""  # from the approved template, as far as is known; explains a refusal

    @property
    def values(self) -> list[str]:
        """Every parameter's value: what must be in no log."""
        header = self.header
        head = [header.link, header.filename] if isinstance(header, Media) else []
        if isinstance(header, Parameter):
            head = [header.value]
        body, buttons = (each.value for each in self.body), (each.value for each in self.buttons)
        return [*head, *body, *buttons]

    def __str__(self) -> str:
        """For people who may see contents: the template and what goes into it."""
        lines = [f"{self.template} ({self.language})"]
        if isinstance(self.header, Media):
            lines.append(f"header: {self.header.link}")
        elif self.header is not None:
            lines.append(f"header: {self.header.value}")
        for place, each in enumerate(self.body, start=1):
            lines.append(f"{each.name or place}: {each.value}")
        lines += [f"button {each.index + 1}: {each.value}" for each in self.buttons]
        return "\n".join(lines)


def shown(message: Any) -> dict[str, Any]:
    """The fields of a composed message for people who may see contents: those of its repr."""
    values = asdict(message)
    return {each.name: values[each.name] for each in fields(message) if each.repr}


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
    patient: bool = False  # of LATER: it only came too soon, which costs no attempt
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
    suppress: Fate | None = None  # of FAILED, because of a former COMPLAINED or OPTED_OUT


@dataclass(frozen=True, slots=True)
class Found:
    """One message that a provider took, as it tells when it is asked."""

    report: Report
    names: tuple[str, ...]  # what it may be recognised by, each as `Provider.identify` makes it
    ours: bool  # it comes from the sender that we have now
