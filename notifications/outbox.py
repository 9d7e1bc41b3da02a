"""Claim and settle: the two moves that every row makes, the same for tasks and notifications.

    claim    due rows get this worker's token and a lease; whoever comes second finds none
    start    set just before something leaves the house: a lost lease then means "unknown"
    settle   the outcome, one conditional UPDATE with the token in its WHERE
    release  what was claimed and not started goes back untouched

There is no clean-up of dead workers: claiming moves `due_at` to the end of the lease, so a row
whose worker died is simply due again. All times are the database's.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, groupby
from typing import Any, TypeVar

from django.db import connections, router, transaction
from django.db.models import F, Model, Q
from django.db.models.functions import Now

from notifications import conf, holds, inserts, signals
from notifications.fallback import UNREACHED, follow
from notifications.models import (
    Attempt,
    DeadLetter,
    Hold,
    Notification,
    Priority,
    State,
    Task,
    Work,
)
from notifications.models.work import may_move
from notifications.redaction import storable

W = TypeVar("W", Notification, Task)

# What is told of a row that comes to stand so; of any other state, that it failed.
HAPPENINGS = {
    State.PENDING: signals.waiting,  # for the next attempt
    **dict.fromkeys((State.SENT, State.DELIVERED, State.READ, State.DONE), signals.completed),
    **dict.fromkeys((State.CANCELLED, State.EXPIRED, State.SUPPRESSED), signals.removed),
}

LONGEST_REASON = 300  # characters
PARKED = datetime(9999, 1, 1, tzinfo=UTC)  # due_at of rows that wait for a person


@dataclass(frozen=True, slots=True)
class DeadLetterDraft:
    """What a dead letter will say."""

    reason: str
    error: str = ""
    code: str = ""
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """Where a claimed row goes."""

    row: Notification | Task
    state: State
    counted: bool = True  # whether an attempt was made
    after: float | None = None  # pending only: seconds until it is due again; None: parked
    reason: str = ""
    dead: DeadLetterDraft | None = None
    result: Any = None  # of a task
    lapsed: bool = False  # its former worker died after starting it

    @property
    def parks(self) -> bool:
        """Whether the row waits from now on until a person lets it go."""
        return self.state is State.PENDING and self.after is None


def claim(model: type[W], queue: str, limit: int, *, lease: float | None = None) -> list[W]:
    """Claim up to `limit` due rows of `queue`, the most urgent first.

    Returned rows with `started` still set were started by a worker that lost its lease; those that
    a worker had and did not start count one of `stalls` more.
    """
    seconds = conf.get("LEASE") if lease is None else lease
    using = router.db_for_write(model)
    connection = connections[using]
    sql = _CLAIM[connection.vendor]
    held = holds.current().kinds_of(queue) if model is Notification else []
    but = f"AND kind NOT IN ({', '.join(['%s'] * len(held))})" if held else ""
    table = connection.ops.quote_name(model._meta.db_table)
    columns = ", ".join(
        connection.ops.quote_name(str(field.column)) for field in model._meta.concrete_fields
    )
    sql = sql.format(table=table, but=but, columns=columns)
    params = _CLAIM_PARAMS[connection.vendor](
        token=uuid.uuid4(), queue=queue, limit=limit, lease=seconds, held=held
    )
    rows = list(model._default_manager.using(using).raw(sql, params))
    # RETURNING keeps no order.
    rows.sort(key=lambda row: (row.priority, row.wanted_at, row.pk))
    _tell_claimed(rows)
    return rows


def claim_one(model: type[W], pk: int, *, lease: float | None = None) -> W | None:
    """Claim the waiting row `pk` at once, even if it is not due; None if it is not waiting."""
    seconds = conf.get("LEASE") if lease is None else lease
    rows = model._default_manager.using(router.db_for_write(model))
    token = uuid.uuid4()
    claimed = rows.filter(Q(token=None) | Q(due_at__lte=Now()), pk=pk, state=State.PENDING).update(
        token=token, due_at=Now() + timedelta(seconds=seconds)
    )
    if not claimed:
        return None
    row = rows.get(pk=pk)
    _tell_claimed([row])
    return row


# For each priority in turn the first due rows, straight off the partial index: a million rows
# scheduled ahead at a higher priority are never looked at, as they would be with
# ORDER BY priority, due_at.
_POSTGRESQL = """
UPDATE {table} SET token = %s, due_at = statement_timestamp() + %s * interval '1 second',
    stalls = stalls + (token IS NOT NULL AND NOT started)::int
WHERE id = ANY(ARRAY(
    SELECT x.id FROM (VALUES (0), (1), (2), (3)) AS p(v) CROSS JOIN LATERAL (
        SELECT id FROM {table}
        WHERE queue = %s AND state = 'pending' AND priority = p.v
          AND due_at <= statement_timestamp() {but}
        ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED
    ) AS x LIMIT %s
))
RETURNING {columns}
"""

_SQLITE_BRANCH = """
SELECT * FROM (
    SELECT id, priority, due_at FROM {{table}}
    WHERE queue = %s AND state = 'pending' AND priority = {priority}
      AND due_at <= strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now') {{but}}
    ORDER BY due_at LIMIT %s
)"""

_SQLITE = (
    """
UPDATE {table} SET token = %s,
    due_at = strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', %s),
    stalls = stalls + (token IS NOT NULL AND NOT started)
WHERE id IN (SELECT id FROM ("""
    + " UNION ALL ".join(_SQLITE_BRANCH.format(priority=p) for p in Priority.values)
    + """) ORDER BY priority, due_at LIMIT %s)
RETURNING {columns}
"""
)

_CLAIM = {"postgresql": _POSTGRESQL, "sqlite": _SQLITE}

_CLAIM_PARAMS = {
    "postgresql": lambda *, token, queue, limit, lease, held: [
        token,
        lease,
        queue,
        *held,
        limit,
        limit,
    ],
    "sqlite": lambda *, token, queue, limit, lease, held: [
        token.hex,
        f"+{lease:.3f} seconds",
        *[value for _ in Priority.values for value in (queue, *held, limit)],
        limit,
    ],
}


def start(rows: Sequence[W], *, lease: float | None = None) -> list[W]:
    """Mark claimed rows started; those that are still ours. With `lease`, also renew it."""
    if not rows:
        return []
    changes: dict[str, Any] = {"started": True}
    if lease is not None:
        changes["due_at"] = Now() + timedelta(seconds=lease)
    ours: list[W] = []
    for token, group in _by_token(rows):
        mine = _mine(type(group[0]), token).filter(pk__in=[row.pk for row in group])
        if mine.update(**changes) == len(group):
            ours += group
        else:
            kept = set(mine.values_list("pk", flat=True))
            ours += [row for row in group if row.pk in kept]
    return ours


def release(
    rows: Sequence[W], *, after: float = 0.0, reason: str = "", stalled: bool = False
) -> None:
    """Give claimed rows back without an attempt, due again `after` seconds; `stalled`: as if their
    claim had run out, since one of them takes too long."""
    more = {"stalls": F("stalls") + 1} if stalled else {}
    for token, group in _by_token(rows):
        _mine(type(group[0]), token).filter(pk__in=[row.pk for row in group]).update(
            due_at=_from_now(after), token=None, started=False, reason=_fit(reason), **more
        )


def settle(settlements: Sequence[Settlement], attempts: Sequence[Attempt] = ()) -> int:
    """Write outcomes and attempts in one transaction; how many settlements took effect.

    Whoever lost its row to another worker stops quietly here; its attempts are written anyway.
    """
    using = router.db_for_write(Notification)
    with transaction_of(Notification):
        settled = 0
        parked: dict[str, str] = {}
        for group in _alike(settlements):
            updated = _move(group)
            settled += updated
            first = group[0]
            if updated and first.parks:
                parked[first.row.queue] = first.reason
            if updated and (row := _falling(first)) is not None and follow(row, using):
                continue  # nothing gave up: it goes on
            if updated and first.dead is not None:
                bury(first, first.dead).save(using=using, force_insert=True)
            if updated == len(group):  # else others have some of them, and tell
                _tell_settled(group)
        for queue, reason in parked.items():
            # In this transaction: no row is parked without a hold that tells of it and is lifted
            # to let it go.
            holds.hold(Hold.Scope.BACKLOG, queue, reason=reason, cause=Hold.Cause.AGE)
        inserts.insert(attempts, using=using, filled=False)
    return settled


def _tell_claimed(rows: Sequence[Notification | Task]) -> None:
    using = router.db_for_write(Notification)
    signals.active.tell_rows(rows, using=using)
    lost = [row for row in rows if row.started]
    if lost:
        signals.stalled.tell_rows(lost, using=using)


def _tell_settled(group: Sequence[Settlement]) -> None:
    """What became of rows that ended alike."""
    first = group[0]
    if first.state is State.PENDING and not first.counted:
        return  # given back, as if it had not been claimed
    happening = HAPPENINGS.get(first.state, signals.failed)
    happening.tell_rows(
        [one.row for one in group],
        using=router.db_for_write(Notification),
        state=first.state.value,
        attempt=first.row.attempts + first.counted,
        code=first.dead.code if first.dead else None,
        reason=first.reason or None,
    )


def transaction_of(model: type[Model]) -> AbstractContextManager[None]:
    """One transaction for moves of `model`'s rows; joins the one around it, if there is one."""
    return transaction.atomic(using=router.db_for_write(model), savepoint=False)


def due_queues(queues: Collection[str]) -> list[str]:
    """Those of `queues` that have a due row and are not held, in their order."""
    known = holds.current()
    open_ones = [name for name in queues if not known.stops(name)]
    due: set[str] = set()
    for model in (Notification, Task):
        due |= _due(model, [name for name in open_ones if _model_of(name) is model])
    return [name for name in open_ones if name in due]


def has_due(queue: str) -> bool:
    """Whether a row of `queue` is due now, held or not."""
    return bool(_due(_model_of(queue), [queue]))


def _model_of(queue: str) -> type[Notification | Task]:
    return Task if conf.channel_of_queue(queue) is None else Notification


def _due(model: type[Model], queues: Sequence[str]) -> set[str]:
    """Those of `queues` with a due row of a kind that is not held."""
    if not queues:
        return set()
    connection = connections[router.db_for_write(model)]
    known = holds.current()
    held = [
        (queue, kind) for queue in queues if model is Notification for kind in known.kinds_of(queue)
    ]
    pairs = ", ".join(["(%s, %s)"] * len(held))
    sql = _DUE.format(
        names=", ".join(["(%s)"] * len(queues)),
        table=connection.ops.quote_name(model._meta.db_table),
        now=NOW[connection.vendor],
        but=f"AND (work.queue, work.kind) NOT IN (VALUES {pairs})" if held else "",
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [*queues, *chain.from_iterable(held * len(Priority))])
        return {name for (name,) in cursor.fetchall()}


# One look at the claim index for each queue and priority, for the same reason as the claim's.
# (Not EXISTS: PostgreSQL may turn that into a hash of all due rows. Nor without an order: where
# many rows of one priority wait and many of another are scheduled, it takes both for due, and looks
# for the first of them in the whole table.)
_DUE = "WITH asked (name) AS (VALUES {names}) SELECT asked.name FROM asked WHERE " + " OR ".join(
    "(SELECT 1 FROM {table} AS work WHERE work.queue = asked.name AND work.state = 'pending'"
    f" AND work.priority = {priority} AND work.due_at <= {{now}} {{but}}"
    " ORDER BY work.due_at LIMIT 1) = 1"
    for priority in Priority.values
)

# The database's present, in SQL that has parameters.
NOW = {
    "postgresql": "statement_timestamp()",
    "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')",
}


def fingerprint(name: str, error: str, code: str) -> str:
    """The same for dead letters of the same kind, error class and code."""
    return hashlib.blake2s(f"{name}\x1f{error}\x1f{code}".encode(), digest_size=16).hexdigest()


def _mine(model: type[Model], token: uuid.UUID | None) -> Any:
    return model._default_manager.using(router.db_for_write(model)).filter(
        token=token, state=State.PENDING
    )


def _by_token(rows: Sequence[W]) -> Iterable[tuple[uuid.UUID | None, list[W]]]:
    for token, group in groupby(sorted(rows, key=_token_text), key=lambda row: row.token):
        yield token, list(group)


def _token_text(row: Work) -> str:
    return str(row.token)


def _alike(settlements: Sequence[Settlement]) -> Iterable[list[Settlement]]:
    """Settlements that one UPDATE can write; what has a story of its own goes alone."""
    plain: dict[tuple[Any, ...], list[Settlement]] = {}
    for one in settlements:
        alone = one.dead is not None or one.result is not None or _falling(one) is not None
        if not alone and one.state is not State.PENDING:
            key = (type(one.row), one.row.token, one.state, one.counted, one.reason, one.lapsed)
            plain.setdefault(key, []).append(one)
        else:
            yield [one]
    yield from plain.values()


def _falling(one: Settlement) -> Notification | None:
    """Its row, if another channel may take over from it."""
    row = one.row
    return (
        row if one.state in UNREACHED and isinstance(row, Notification) and row.fallback else None
    )


def _move(group: list[Settlement]) -> int:
    first = group[0]
    assert may_move(State.PENDING, first.state), first.state
    changes: dict[str, Any] = {
        "state": first.state,
        "token": None,
        "started": False,
        "reason": _fit(first.reason),
    }
    if first.counted:
        changes["attempts"] = F("attempts") + 1
    if first.lapsed:
        changes["lapses"] = F("lapses") + 1
    if first.state is State.PENDING:
        changes["due_at"] = PARKED if first.parks else _from_now(first.after or 0.0)
    else:
        changes["settled_at"] = Now()
    if isinstance(first.row, Notification) and first.state is State.SENT:
        changes["content"] = None
    if isinstance(first.row, Task) and first.state is State.DONE:
        changes |= {"result": first.result, "progress": 100}
    mine = _mine(type(first.row), first.row.token).filter(pk__in=[one.row.pk for one in group])
    updated: int = mine.update(**changes)
    return updated


def _fit(reason: str) -> str:
    """As much of a reason as its column takes, whatever a task or a provider has put into it."""
    return storable(reason)[:LONGEST_REASON]


def _from_now(seconds: float) -> Any:
    return Now() + timedelta(seconds=seconds) if seconds else Now()


def bury(one: Settlement, draft: DeadLetterDraft) -> DeadLetter:
    """The dead letter, not saved yet, of a row that is settled so."""
    row = one.row
    link: Mapping[str, Any] = {"task": row} if isinstance(row, Task) else {"notification": row}
    return DeadLetter(
        **link,
        queue=row.queue,
        name=row.title,
        topic=row.topic if isinstance(row, Task) else "",
        error=draft.error[:200],
        code=draft.code[:32],
        reason=_fit(draft.reason),
        traceback=draft.traceback,
        attempts=row.attempts + (1 if one.counted else 0),
        fingerprint=fingerprint(row.title, draft.error, draft.code),
    )


def update_ours(row: Notification | Task, **changes: Any) -> bool:
    """Change columns of a row while its claim is ours; whether it still is."""
    return bool(_mine(type(row), row.token).filter(pk=row.pk).update(**changes))
