"""What waits, counted off the indexes: of all queues in one query, and of all topics.

No more rows are read than are told, however long the backlog: `most` bounds each count, and a count
of `most` means "or more". Every worker asks each half minute, and every screen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from notifications import conf, outbox
from notifications.models import DeadLetter, Notification, Priority, Task


@dataclass(frozen=True, slots=True)
class Pending:
    """Rows of one queue."""

    waiting: int  # due, and not taken yet
    active: int  # claimed by a worker
    delayed: int  # due later
    dlq: int  # dead letters
    oldest: float | None  # seconds that the oldest due row waits


def model_of(queue: str) -> type[Notification] | type[Task]:
    """What kind of rows wait in `queue`."""
    return Task if conf.channel_of_queue(queue) is None else Notification


def count_queues(queues: Collection[str], *, most: int) -> dict[str, Pending]:
    """What waits in each of `queues`, all of this app."""
    # A claimed row is due again at the end of its lease.
    lease = max(float(conf.get("LEASE")), float(conf.get("LONGEST_TASK"))) + 10
    rows = _ask(_OF_QUEUES, queues, most=most, lease=lease)
    return {
        queue: Pending(
            waiting=min(waiting, most),
            active=min(active, most),
            delayed=min(delayed, most),
            dlq=dlq,
            oldest=max((age for age in ages if age is not None), default=None),
        )
        for queue, waiting, active, delayed, dlq, *ages in rows
    }


def count_stalled(queues: Collection[str], *, grace: float, most: int) -> dict[str, int]:
    """How many of those that are due first in each queue were taken by a worker that died, more
    than `grace` seconds ago, and by nobody since."""
    return dict(_ask(_STALLED, queues, most=most, grace=grace))


def count_topics(topics: Sequence[str], *, most: int) -> dict[str, dict[str, int]]:
    """The handlers of each of `topics`: waiting, active, delayed and dlq."""
    names = ("waiting", "active", "delayed", "dlq")
    return {
        topic: dict(zip(names, counts, strict=True))
        for topic, *counts in _run(_OF_TOPICS, Task, topics, most=most)
    }


def _ask(sql: str, queues: Collection[str], **values: float) -> Iterator[tuple[Any, ...]]:
    for model in (Notification, Task):
        names = [queue for queue in queues if model_of(queue) is model]
        yield from _run(sql, model, names, **values)


def _run(
    sql: str, model: type[Notification] | type[Task], names: Sequence[str], **values: float
) -> list[Any]:
    if not names:
        return []
    connection = connections[router.db_for_read(model)]
    quote = connection.ops.quote_name
    # Numbers of ours stand in the text: what is asked for are the only parameters.
    text = sql.format(
        names=", ".join(["(%s)"] * len(names)),
        rows=quote(model._meta.db_table),
        letters=quote(DeadLetter._meta.db_table),
        now=outbox.NOW[connection.vendor],
        soon=_moment(connection, values.get("lease", 0.0)),
        before=_moment(connection, -values.get("grace", 0.0)),
        age=_AGE[connection.vendor],
        most=values["most"],
    )
    with connection.cursor() as cursor:
        cursor.execute(text, names)
        return list(cursor.fetchall())


def _moment(connection: BaseDatabaseWrapper, seconds: float) -> str:
    """So many seconds from the database's present, in SQL that has parameters."""
    if connection.vendor == "sqlite":
        return f"strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '{seconds:+.3f} seconds')"
    return f"{outbox.NOW[connection.vendor]} + interval '{seconds:.3f} s'"


# How many seconds ago a row came due.
_AGE = {
    "postgresql": "extract(epoch FROM statement_timestamp() - due_at)::float",
    "sqlite": "(julianday('now') - julianday(due_at)) * 86400.0",
}

# The claim's index: queue, priority, due_at, of pending rows; that of topics: topic, due_at. Each
# part reads a stretch of one of them, in its order: without an order PostgreSQL may look for the
# rows that wait in the whole table, from the oldest on. (SQLite uses a partial index where its
# condition is repeated word for word.) What a worker has is due when its lease ends, so it is among
# the first of what comes later; what is delayed holds no token.
_FEW = (
    "(SELECT count({what}) FROM"
    " (SELECT token {among} {when} ORDER BY due_at LIMIT {{most}}) AS few)"
)
_DUE, _LATER, _SOON = "<= {now}", "> {now}", "> {now} AND due_at <= {soon}"
_FREE = "> {now} AND token IS NULL"

_IN_QUEUE = (
    "FROM {{rows}} WHERE queue = asked.name AND state = 'pending' AND priority = {priority}"
    " AND due_at"
)
_OF_TOPIC = (
    "FROM {rows} WHERE topic = asked.name AND NOT (topic = '') AND state = 'pending' AND due_at"
)


def _in_queue(what: str, when: str) -> str:
    """The number of some rows of a queue: of each priority no more than are told."""
    return " + ".join(
        _FEW.format(what=what, among=_IN_QUEUE.format(priority=each), when=when)
        for each in Priority.values
    )


def _of_topic(what: str, when: str) -> str:
    return _FEW.format(what=what, among=_OF_TOPIC, when=when)


def _letters(condition: str) -> str:
    some = f"SELECT 1 FROM {{letters}} WHERE {condition} LIMIT {{most}}"
    return f"(SELECT count(*) FROM ({some}) AS few)"


def _ages() -> str:
    """How long the first row of each priority waits, which is its oldest one."""
    return ", ".join(
        f"(SELECT {{age}} {_IN_QUEUE.format(priority=each)} {_DUE} ORDER BY due_at LIMIT 1)"
        for each in Priority.values
    )


_ASKED = "WITH asked (name) AS (VALUES {names}) SELECT asked.name"

_OF_QUEUES = (
    f"{_ASKED}, {_in_queue('*', _DUE)}, {_in_queue('token', _SOON)}, {_in_queue('*', _FREE)},"
    f" {_letters('queue = asked.name')}, {_ages()} FROM asked"
)
_STALLED = f"{_ASKED}, {_in_queue('token', '<= {before}')} FROM asked"
_OF_TOPICS = (
    f"{_ASKED}, {_of_topic('*', _DUE)}, {_of_topic('token', _LATER)}, {_of_topic('*', _FREE)},"
    f""" {_letters("topic = asked.name AND NOT (topic = '')")} FROM asked ORDER BY asked.name"""
)
