"""Ask for messages: one row for each recipient and channel, in the caller's transaction.

    notify(OrderConfirmation, to=customer, context={"order_id": 7}, about=order)
    send_email(to="ann@example.com", subject="Hello", text="…")
    send_whatsapp("+12025550123", "parcel_waiting", ["Ann", "7K2M-Q9XA"], about=order)

Nothing is sent here: after the commit the row's queue is rung, and a worker does the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from django.contrib.auth.models import AbstractBaseUser
from django.db import models, router, transaction
from django.db.models.functions import Now

from notifications import conf, contents, inserts, rings, signals, tracing
from notifications.channels import whatsapp
from notifications.channels.whatsapp_template import ButtonValue, WhatsAppTemplate
from notifications.errors import InvalidAddress, InvalidMessage, KeyReused, UnknownChannel
from notifications.kinds import Channels, Kind, ways
from notifications.message import Attachment, Media
from notifications.models import Notification, Priority, State
from notifications.muting import is_muted
from notifications.retries import Backoff, RetryPolicy
from notifications.tasks import check_plain, due_at, require_transaction

logger = logging.getLogger("notifications.dispatch")


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody to write to, when a user or a bare address does not say enough."""

    user: AbstractBaseUser | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)  # by channel; before the user's own
    language: str = ""  # empty: the user's own, or the project's
    context: Mapping[str, Any] = field(default_factory=dict)  # on top of the call's context
    key: str | None = None  # idempotency key of this recipient's messages


To: TypeAlias = AbstractBaseUser | str | Recipient


@dataclass(frozen=True, slots=True)
class _Options:
    """What all messages of one call share."""

    priority: int
    about_type: str
    about_id: str
    due: Any
    expires: Any
    retry: dict[str, Any] | None
    trace: str


def notify(
    kind: type[Kind],
    *,
    to: To | Sequence[To],
    context: Mapping[str, Any] | None = None,
    channels: Channels | None = None,
    about: models.Model | None = None,
    key: str | None = None,
    delay: timedelta | float | None = None,
    at: datetime | None = None,
    expires_after: timedelta | None = None,
    priority: Priority | None = None,
    language: str = "",
    retries: int | None = None,
    backoff: Backoff | None = None,
    base: float | None = None,
) -> list[Notification]:
    """Send a notification of `kind` to somebody, on each of the kind's channels that is configured
    and where they have an address, or on each of `channels`; of a Fallback, on the first that can
    reach them.

    `context` holds ids and plain facts for the templates; `about` is the object it is about.
    With a `key` the same call made twice gives the same rows: under one key each address on each
    channel gets one message. `delay` (seconds or timedelta) or `at` (aware datetime) put it off;
    `expires_after` drops it if it is still waiting so long after its time. The rest overrides the
    kind's priority and retry policy. Returns the rows.

    Raises InvalidAddress when somebody has a usable address on none of the kind's channels, or
    lacks one on one of `channels`, InvalidPayload for a context that is not plain,
    UnknownChannel, KeyReused for a key that another kind or user has had at the same address,
    ValueError for a wrong option, and OutsideTransaction in strict mode.
    """
    if is_muted():
        logger.debug("muted: %s", kind.name)
        return []
    values = dict(context or {})
    check_plain(values, where=f"the context of {kind.name}")
    options = _options(
        priority=kind.priority if priority is None else priority,
        about=about,
        delay=delay,
        at=at,
        expires_after=expires_after or kind.expires_after,
        retry=_retry_changes(retries, backoff, base),
    )
    chosen = ways(channels or ())
    rows: list[Notification] = []
    for recipient in _recipients(to, key):
        rows += _rows(
            recipient, chosen or _configured(kind), options, strict=bool(chosen),
            kind=kind, context=values, language=language,
        )  # fmt: skip
    return _insert(rows)


def notify_many(
    kind: type[Kind],
    recipients: Iterable[To],
    *,
    context: Mapping[str, Any] | None = None,
    channels: Channels | None = None,
    about: models.Model | None = None,
    delay: timedelta | float | None = None,
    at: datetime | None = None,
    priority: Priority | None = None,
    batch_size: int = 1000,
) -> int:
    """Send `kind` to many people, each with the context of its own Recipient; how many rows.

    Recipients may be a generator: rows are written `batch_size` at a time, in the caller's
    transaction. Who has no usable address is logged and left out, so that one bad address does
    not stop a campaign.
    """
    if is_muted():
        logger.debug("muted: %s", kind.name)
        return 0
    shared = dict(context or {})
    check_plain(shared, where=f"the context of {kind.name}")
    options = _options(
        priority=kind.priority if priority is None else priority,
        about=about,
        delay=delay,
        at=at,
        expires_after=kind.expires_after,
        retry=None,
    )
    chosen = ways(channels or ())
    written = 0
    rows: list[Notification] = []
    for each in recipients:
        recipient = _recipient(each, None)
        values = {**shared, **recipient.context}
        try:
            rows += _rows(
                recipient, chosen or _configured(kind), options, strict=False,
                kind=kind, context=values,
            )  # fmt: skip
        except InvalidAddress as error:
            logger.warning("%s: left out: %s", kind.name, error)
        if len(rows) >= batch_size:
            written += len(_insert(rows))
            rows = []
    return written + len(_insert(rows))


def send_email(
    *,
    to: To | Sequence[To],
    subject: str,
    text: str = "",
    html: str = "",
    sender: str = "",
    reply_to: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    attachments: Sequence[Attachment] = (),
    to_header: str = "",
    cc_header: str = "",
    about: models.Model | None = None,
    key: str | None = None,
    delay: timedelta | float | None = None,
    at: datetime | None = None,
    expires_after: timedelta | None = None,
    priority: Priority = Priority.NORMAL,
    retries: int | None = None,
    backoff: Backoff | None = None,
    base: float | None = None,
) -> list[Notification]:
    """Send a mail that has no kind, to each recipient on its own; the rows.

    Its content is stored encrypted until it is sent, then erased. `to_header` and `cc_header`
    show other recipients. Raises InvalidMessage for line breaks in headers and for a mail
    without text and html, and what `notify` raises.
    """
    if is_muted():
        logger.debug("muted: a mail without a kind")
        return []
    if not (text or html):
        raise InvalidMessage("A mail needs a `text`, an `html`, or both.")
    visible = {"subject": subject, "sender": sender, "to_header": to_header, "cc_header": cc_header}
    more = dict(headers or {})
    for name, value in [*visible.items(), *more.items(), *(("reply_to", r) for r in reply_to)]:
        if any(ord(character) < 32 for character in f"{name}{value}"):
            raise InvalidMessage(f"{name} must be one line without control characters.")
    files = [contents.write_attachment(each) for each in attachments]
    bodies = {"text": text, "html": html, "reply_to": list(reply_to), "headers": more}
    content = contents.seal({**visible, **bodies, "attachments": files})
    options = _options(
        priority=priority,
        about=about,
        delay=delay,
        at=at,
        expires_after=expires_after,
        retry=_retry_changes(retries, backoff, base),
    )
    rows: list[Notification] = []
    for recipient in _recipients(to, key):
        rows += _rows_of_way(recipient, ("email",), options, content=content)
    return _insert(rows)


def send_whatsapp(
    to: To | Sequence[To],
    template: str,
    params: Sequence[str] | Mapping[str, str] = (),
    *,
    header: str | Mapping[str, str] | Media | None = None,
    buttons: Sequence[ButtonValue] = (),
    language: str = "",
    about: models.Model | None = None,
    key: str | None = None,
    delay: timedelta | float | None = None,
    at: datetime | None = None,
    expires_after: timedelta | None = None,
    priority: Priority = Priority.NORMAL,
    retries: int | None = None,
    backoff: Backoff | None = None,
    base: float | None = None,
) -> list[Notification]:
    """Send a WhatsApp template that no kind declares, to each recipient on its own; the rows.

    `params` fill the body: in their order, or by name. `header` and `buttons` are as in
    `WhatsAppTemplate`, with values instead of expressions. `language` is the template's code at
    Meta ("en_US"); empty: that of LANGUAGE_CODE. What is given is stored encrypted until it is
    sent, then erased. Raises InvalidMessage for an empty value, and what `notify` raises.
    """
    if is_muted():
        logger.debug("muted: a WhatsApp message without a kind")
        return []
    languages = (language,) if language else ()
    whole = WhatsAppTemplate(template, languages, body=params, header=header, buttons=buttons)
    whole.fill(str)  # refuses what is empty, here and now
    content = contents.seal(whatsapp.write_content(whole))
    options = _options(
        priority=priority,
        about=about,
        delay=delay,
        at=at,
        expires_after=expires_after,
        retry=_retry_changes(retries, backoff, base),
    )
    rows: list[Notification] = []
    for recipient in _recipients(to, key):
        rows += _rows_of_way(recipient, ("whatsapp",), options, content=content)
    return _insert(rows)


def _options(
    *,
    priority: int,
    about: models.Model | None,
    delay: timedelta | float | None,
    at: datetime | None,
    expires_after: timedelta | None,
    retry: dict[str, Any] | None,
) -> _Options:
    if delay is not None and at is not None:
        raise ValueError("Give either `delay` or `at`, not both.")
    if isinstance(delay, int | float):
        delay = timedelta(seconds=delay)
    due = due_at(at if delay is None else delay)
    expires = None
    if expires_after is not None:
        expires = (Now() if due is None else due) + expires_after
    return _Options(
        priority=Priority(priority).value,  # refuses a number that is none
        about_type="" if about is None else about._meta.label_lower,
        about_id="" if about is None else str(about.pk),
        due=due,
        expires=expires,
        retry=retry,
        trace=tracing.parent(),
    )


def _retry_changes(
    retries: int | None, backoff: Backoff | None, base: float | None
) -> dict[str, Any] | None:
    given = {"retries": retries, "backoff": backoff, "base": base}
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        return None
    RetryPolicy().with_overrides(changes)  # refuses what makes no sense, here and now
    return changes


def _recipients(to: To | Sequence[To], key: str | None) -> list[Recipient]:
    everybody = [to] if isinstance(to, AbstractBaseUser | str | Recipient) else to
    return [_recipient(each, key) for each in everybody]


def _recipient(to: To, key: str | None) -> Recipient:
    if isinstance(to, Recipient):
        if to.context:
            check_plain(to.context, where="the context of a recipient")
        return to if key is None or to.key else Recipient(
            to.user, to.addresses, to.language, to.context, key
        )  # fmt: skip
    if isinstance(to, str):
        return Recipient(addresses={"*": to}, key=key)
    return Recipient(user=to, key=key)


def _configured(kind: type[Kind]) -> list[tuple[str, ...]]:
    """The ways of `kind` over the channels that this project has."""
    known = conf.channels()
    all_ways = [tuple(name for name in way if name in known) for way in ways(kind.channels)]
    if not any(all_ways):
        raise UnknownChannel(f"None of {kind.name}'s channels is configured: {kind.channels}.")
    return [way for way in all_ways if way]


def _rows(
    recipient: Recipient,
    all_ways: Sequence[tuple[str, ...]],
    options: _Options,
    *,
    strict: bool,
    kind: type[Kind],
    context: Mapping[str, Any],
    language: str = "",
) -> list[Notification]:
    """The messages to one recipient. Unless `strict`, one that can be written is enough.

    Raises InvalidAddress.
    """
    rows: list[Notification] = []
    refusal: InvalidAddress | None = None
    for among in all_ways:
        try:
            rows += _rows_of_way(
                recipient, among, options, kind=kind, context=context, language=language
            )
        except InvalidAddress as error:
            if strict:
                raise
            logger.debug("%s: not on %s: %s", kind.name, among, error)
            refusal = refusal or error
    if refusal is not None and not rows:
        raise refusal
    return rows


def _rows_of_way(
    recipient: Recipient, among: Sequence[str], options: _Options, **given: Any
) -> list[Notification]:
    """The message to one recipient on the first channel of `among` that can reach them: one row for
    each address there, of which the first alone falls back to the other channels."""
    (channel, [address, *more]), *others = _ways(recipient, [conf.channel(name) for name in among])
    rows = [_row(recipient, channel, address, options, others=others, **given)]
    return rows + [_row(recipient, channel, each, options, **given) for each in more]


def _row(
    recipient: Recipient,
    channel: conf.ChannelConf,
    address: str,
    options: _Options,
    *,
    others: Sequence[tuple[conf.ChannelConf, Sequence[str]]] = (),
    kind: type[Kind] | None = None,
    context: Mapping[str, Any] | None = None,
    content: bytes | None = None,
    language: str = "",
) -> Notification:
    user = recipient.user
    kept = any(each.channel.kept for each in (channel, *(other for other, _there in others)))
    if kind is not None and kind.secret and kept:
        raise InvalidMessage(f"{kind.name} holds a secret: it must not stay in an inbox.")
    row = Notification(
        kind="" if kind is None else kind.name,
        channel=channel.name,
        queue=channel.queue,
        to=address,
        fallback=[(other.name, there[0]) for other, there in others] or None,
        user_id=None if user is None else user.pk,
        language=language or recipient.language or str(getattr(user, "language", "") or ""),
        context={**(context or {}), **recipient.context},
        content=content,
        priority=options.priority,
        about_type=options.about_type,
        about_id=options.about_id,
        trace=options.trace,
        retry=options.retry,
        key=recipient.key,
        expires_at=options.expires,
    )
    if options.due is not None:
        row.due_at = row.wanted_at = options.due
    elif channel.channel.kept:
        row.state, row.settled_at = State.DELIVERED, Now()
    return row


def _ways(
    recipient: Recipient, channels: Sequence[conf.ChannelConf]
) -> list[tuple[conf.ChannelConf, list[str]]]:
    """The channels that can reach the recipient, with the addresses on each; at least one.

    Raises InvalidAddress, the first one's, when none can.
    """
    ways: list[tuple[conf.ChannelConf, list[str]]] = []
    problem: InvalidAddress | None = None
    for channel in channels:
        try:
            ways.append((channel, _addresses(recipient, channel)))
        except InvalidAddress as error:
            problem = problem or error
    if problem is not None and not ways:
        raise problem
    return ways


def _addresses(recipient: Recipient, configured: conf.ChannelConf) -> list[str]:
    user = recipient.user
    given = [recipient.addresses.get(configured.name) or recipient.addresses.get("*", "")]
    if configured.channel.kept:
        given = []  # an inbox belongs to a user, whatever addresses say
    if not any(given):
        given = [] if user is None else configured.channel.addresses_of(user)
    if not given:
        who = "the recipient" if user is None else f"user {user.pk}"
        raise InvalidAddress(
            f"{who} has no address for the channel {configured.name!r}; give one, or pass "
            "other `channels`."
        )
    return [configured.channel.clean(each) for each in given]


def _insert(rows: list[Notification]) -> list[Notification]:
    if not rows:
        return rows
    using = router.db_for_write(Notification)
    require_transaction(using)
    if any(row.key is not None for row in rows):
        rows = _insert_once(rows, using)
    else:
        inserts.insert(rows, using=using)
    for queue in {row.queue for row in rows}:
        rings.ring_on_commit(queue, using)
    for happening, state in (
        (signals.waiting, State.PENDING),
        (signals.completed, State.DELIVERED),
    ):
        happening.tell_rows([row for row in rows if row.state == state], using=using)
    return rows


def _insert_once(rows: list[Notification], using: str) -> list[Notification]:
    """Insert `rows`, of which some have a key: of one key each address has one message."""
    # A key that is refused takes back what this call wrote for others; of one row that is nothing.
    with transaction.atomic(using=using) if len(rows) > 1 else nullcontext():
        kept = inserts.insert_once(rows, using=using, unique=("channel", "key", "to"))
        for row, one in zip(rows, kept, strict=True):
            if row.kind != one.kind or (row.user_id and one.user_id not in (row.user_id, None)):
                raise KeyReused(
                    f"The key {row.key!r} was used before, for {one} to the same address: give "
                    f"another key to this {row.title}."
                )
    return kept
