"""Show what a notification looks like, without sending it and without giving a secret away."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from notifications import conf
from notifications.kinds import Kind, get_kind, prepare
from notifications.models import Notification


def preview(row: Notification) -> Any:
    """The composed message of a row, as its channel's providers would get it.

    A kind that makes a secret at send time is shown with its sample. Raises LookupError when
    there is nothing left to show, UnknownKind, and what templates raise.
    """
    if row.erased_at is not None:
        raise LookupError("Its content was erased.")
    channel = conf.channel(row.channel).channel
    if not row.kind:
        if row.content is None:
            raise LookupError("Its content was erased when it was sent.")
        return channel.compose(row, None, row.context)
    kind = get_kind(row.kind)
    [context] = [kind.sample()] if kind.secret else prepare(kind, [row])
    return channel.compose(row, kind, context)


def preview_kind(kind: type[Kind], channel: str, *, language: str = "") -> Any:
    """The composed message of a kind with its sample context."""
    row = Notification(
        pk=0,
        kind=kind.name,
        channel=channel,
        to="sample@example.com",
        language=language,
        created_at=timezone.now(),
    )
    return conf.channel(channel).channel.compose(row, kind, kind.sample())
