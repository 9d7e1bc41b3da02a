"""Rows become messages: contexts are loaded for all rows of a kind at once, then rendered.

One bad row must not take its neighbours along: each failure is its own row's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError, connections, router

from notifications.channels.base import Channel
from notifications.errors import AddressGone
from notifications.kinds import Kind, get_kind, prepare
from notifications.message import Outcome, Verdict
from notifications.models import Notification
from notifications.redaction import describe, safe_traceback

logger = logging.getLogger("notifications.composition")


@dataclass(eq=False, slots=True)
class Composed:
    """A row and the message that goes out for it."""

    row: Notification
    message: Any


@dataclass(slots=True)
class Composition:
    """What became of a batch of rows."""

    composed: list[Composed] = field(default_factory=list)
    refused: list[tuple[Notification, Outcome]] = field(default_factory=list)

    def refuse(
        self,
        row: Notification,
        error: Exception,
        *,
        context: Mapping[str, Any] | None = None,
        silent: bool = False,
    ) -> None:
        """Our own code failed to make the message: a deploy may mend it before the last try.
        Nothing mends an address that is gone.

        Kept of the error is what it says beside the values of the row and of its `context`;
        `silent`: its class.
        """
        if isinstance(error, AddressGone):
            gone = Outcome(Verdict.PERMANENT, code="gone", text=str(error), suppress=True)
            self.refused.append((row, gone))
            return
        private = (row.to, row.context, context)
        text = describe(error, private=private, silent=silent)
        logger.warning("notification %s: cannot compose: %s", row.pk, text)
        outcome = Outcome(
            Verdict.LATER,
            text=text,
            error=type(error).__qualname__,
            traceback=safe_traceback(error, private=private, silent=silent),
        )
        self.refused.append((row, outcome))


def compose(batch: Sequence[Notification], channel: Channel) -> Composition:
    """The messages of `batch`. Raises OperationalError and InterfaceError, if the database that
    the rows are in is away; where it is there, the query that failed is its row's own trouble."""
    done = Composition()
    by_kind: dict[str, list[Notification]] = {}
    for row in batch:
        by_kind.setdefault(row.kind, []).append(row)
    for name, rows in by_kind.items():
        kind = get_kind(name) if name else None
        for row, context in _contexts(kind, rows, done):
            try:
                done.composed.append(Composed(row, channel.compose(row, kind, context)))
            except Exception as error:
                if _is_lost_database(error):
                    raise
                done.refuse(row, error, context=context)
    return done


def _contexts(
    kind: type[Kind] | None, rows: Sequence[Notification], done: Composition
) -> Iterable[tuple[Notification, Mapping[str, Any]]]:
    """Each of `rows` with its template context."""
    if kind is None:
        return [(row, row.context) for row in rows]
    try:
        return list(zip(rows, prepare(kind, rows), strict=True))
    except Exception as error:
        if _is_lost_database(error):
            raise
        if len(rows) == 1:
            done.refuse(rows[0], error, silent=kind.secret)  # it may quote what it had made
            return []
        return [pair for row in rows for pair in _contexts(kind, [row], done)]


def _is_lost_database(error: Exception) -> bool:
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    connection = connections[router.db_for_write(Notification)]
    try:
        connection.ensure_connection()
        return not connection.is_usable()
    except DatabaseError:
        return True
