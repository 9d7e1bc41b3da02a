"""Every verb a person can use: the admin, the API and the commands call these, and nothing else.

Each takes `by`, the person, and leaves an audit line (Django's LogEntry) when one is given.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import django_rq
from django.contrib.auth.models import AbstractBaseUser
from django.db import router, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from redis.exceptions import RedisError
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer

from notifications import (
    conf,
    holds,
    outbox,
    resending,
    retention,
    rings,
    signals,
    suppressions,
    synchronising,
    testers,
)
from notifications.audit import (
    ADDITION,
    CHANGE,
    DELETION,
    Person,
    audit,
    audit_all,
    audit_person,
    audit_queue,
)
from notifications.dispatch import To, notify
from notifications.erasure import Erased, erase_person
from notifications.errors import WrongState
from notifications.kinds import SAMPLE, Kind, get_kind
from notifications.models import (
    DeadLetter,
    Hold,
    Notification,
    Priority,
    Stamp,
    State,
    Suppression,
    Task,
)
from notifications.models.work import may_move
from notifications.retention import BATCH, Step, batches
from notifications.service import Service
from notifications.suppressions import Unwanted
from notifications.tasks import get_task

logger = logging.getLogger("notifications.operations")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a clean-up removed."""

    rows: int
    jobs: int


# What a row has that is tried again, as if for the first time.
AFRESH: dict[str, Any] = {
    "state": State.PENDING,
    "attempts": 0,
    "lapses": 0,
    "stalls": 0,
    "due_at": Now(),
    "wanted_at": Now(),  # wanted now: the age of its backlog starts anew
    "token": None,
    "started": False,
    "expires_at": None,
    "settled_at": None,
    "reason": "",
}

# Where a row stands that may be tried again: a person may move it from there. What was sent and
# failed, only the provider's own report sends again.
_RETRIABLE = [
    state
    for state in State
    if state not in (State.PENDING, State.SENT) and may_move(state, State.PENDING)
]

# What a row has whose queue was emptied.
EMPTIED: dict[str, Any] = {
    "state": State.CANCELLED,
    "token": None,
    "settled_at": Now(),
    "reason": "queue emptied",
}


# -- one row ------------------------------------------------------------------------------------


def retry(row: Notification | Task, *, by: Person = None) -> None:
    """Send the same row again, as if for the first time; its dead letter goes.

    Raises WrongState for a row that is not dead, unknown, cancelled, expired or suppressed, and for
    one that was erased.
    """
    using = router.db_for_write(type(row))
    with transaction.atomic(using=using):
        rows = retriable(type(row)._default_manager.using(using).filter(pk=row.pk))
        if not rows.update(**AFRESH):
            raise WrongState(f"{row} is {_state_of(row)}: only what ended unsent can be retried.")
        DeadLetter.objects.using(using).filter(**_link(row)).delete()
        audit(by, row, CHANGE, "Retried.")
        signals.waiting.tell_rows([row], using=using, by=key_of(by))
        rings.ring_on_commit(row.queue, using)


def retriable(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Those of `rows`, all of one model, that ended unsent and still say what to send."""
    rows = rows.filter(state__in=_RETRIABLE)
    return rows.filter(erased_at=None) if rows.model is Notification else rows


def cancel(row: Notification | Task, *, by: Person = None) -> None:
    """Withdraw a waiting row. Raises WrongState once it is being sent or has ended."""
    using = router.db_for_write(type(row))
    with transaction.atomic(using=using):
        # A claimed row that was not started may go: its worker's next move finds no row.
        moved = (
            type(row)
            ._default_manager.using(using)
            .filter(Q(started=False) | Q(token=None), pk=row.pk, state=State.PENDING)
            .update(state=State.CANCELLED, token=None, settled_at=Now(), reason="cancelled")
        )
        if not moved:
            raise WrongState(f"{row} is {_state_of(row)}: only what waits can be cancelled.")
        audit(by, row, CHANGE, "Cancelled.")
        tell_removed([row], State.CANCELLED, by=by)


def remove(row: Notification | Task, *, by: Person = None) -> None:
    """Delete a row with all that belongs to it; one that waits is never sent.

    Raises WrongState for a row that a worker has in hand.
    """
    using = router.db_for_write(type(row))
    with transaction.atomic(using=using):
        rows = type(row)._default_manager.using(using).select_for_update()
        now = rows.filter(pk=row.pk).first()  # locked: no worker starts it meanwhile
        if now is None or (now.token is not None and now.started):
            raise WrongState(f"{row} is {'being sent' if now else 'gone'}.")
        audit(by, row, DELETION, f"Removed: it was {now.state}.")
        tell_removed([row], now.state, by=by)
        now.delete()


def ask(kind: type[Kind], *, to: To, by: Person = None, **options: Any) -> list[Notification]:
    """Send `kind` to somebody because a person asked for it; `options` are those of `notify`.

    With a `key` that was used before these are the rows of then. Raises what `notify` raises.
    """
    with transaction.atomic(using=router.db_for_write(Notification)):
        newest = Notification.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        rows = notify(kind, to=to, **options)
        audit_all(by, [row for row in rows if row.pk > newest], ADDITION, "Asked for.")
    return rows


def discard(letter: DeadLetter, *, by: Person = None) -> None:
    """Remove a dead letter without sending; its row stays dead."""
    with transaction.atomic(using=router.db_for_write(DeadLetter)):
        audit(by, letter, DELETION, f"Discarded without sending: {letter.reason}")
        tell_removed([letter.work], State.DEAD, by=by)
        letter.delete()


def resend(row: Notification, *, key: str = "", by: Person = None) -> Notification:
    """Send a message that went out once more, as a new row: the recipient gets it twice.

    With the same `key` it is sent once however often this is called; without one, each time.
    Raises WrongState for a row that did not go out, and for one whose content was erased.
    """
    with transaction.atomic(using=router.db_for_write(Notification)):
        again, made = resending.copy(row, key=key or uuid4().hex)
        if made:
            audit(by, row, CHANGE, f"Sent again as #{again.pk}.")
            audit(by, again, ADDITION, f"Sent again for #{row.pk}.")
    return again


def send_own_test(
    channel: str,
    *,
    by: AbstractBaseUser,
    to: str = "",
    kind: type[Kind] | None = None,
    language: str = "",
) -> Notification:
    """Send a test that `by` asked for on a screen or over REST, to themselves or to an address that
    is listed for it, and not more than so many in a time (`testers`).

    Raises NotAllowed, TooMany and what `notify` raises.
    """
    with transaction.atomic(using=router.db_for_write(Notification)):
        whom = testers.recipient(channel, to, by=by)
        testers.count(by)
        return send_test(channel, to=whom, kind=kind, language=language, by=by)


def send_test(
    channel: str,
    *,
    to: To,
    kind: type[Kind] | None = None,
    language: str = "",
    priority: Priority = Priority.HIGH,
    retries: int = 0,
    by: Person = None,
) -> Notification:
    """Send `kind` with its sample data, or the app's own test message, to anybody: for people with
    a shell.

    It goes ahead of the backlog, but not as critical: that would reach who has opted out, and tell
    the administrators if it fails. Raises what `notify` raises.
    """
    with transaction.atomic(using=router.db_for_write(Notification)):
        [row] = notify(
            kind or get_kind("notifications_test"),
            to=to,
            channels=[channel],
            context=SAMPLE,
            language=language,
            priority=priority,
            retries=retries,
        )
        row.refresh_from_db()
        audit(by, row, ADDITION, "Sent as a test.")
    return row


def is_due(row: Notification | Task) -> bool:
    """Whether a waiting row's time has come, by the database's clock."""
    rows = type(row)._default_manager.filter(pk=row.pk, state=State.PENDING)
    return bool(rows.filter(due_at__lte=Now()).exists())


def retry_rows(rows: QuerySet[Notification] | QuerySet[Task], *, by: Person = None) -> int:
    """Retry those of `rows` that ended unsent; how many."""
    return _each(rows, retry, by)


def cancel_rows(rows: QuerySet[Notification] | QuerySet[Task], *, by: Person = None) -> int:
    """Cancel those of `rows` that still wait; how many."""
    return _each(rows, cancel, by)


def retry_letters(letters: QuerySet[DeadLetter], *, by: Person = None) -> int:
    """Retry every dead letter of `letters`; how many."""
    return _each(letters.select_related("notification", "task"), _retry_letter, by)


def discard_letters(letters: QuerySet[DeadLetter], *, by: Person = None) -> int:
    """Remove every dead letter of `letters` without sending; how many."""
    return _each(letters, discard, by)


# -- an address -----------------------------------------------------------------------------------


def suppress(channel: str, address: str, *, note: str = "", by: Person = None) -> Suppression:
    """Write to `address` on `channel` no more; the row that says so.

    Raises UnknownChannel and InvalidAddress.
    """
    address = conf.channel(channel).channel.clean(address)
    unwanted = Unwanted(channel, address, suppressions.Reason.PERSON, note or "by hand")
    with transaction.atomic(using=router.db_for_write(Suppression)):
        suppressions.add([unwanted], by=None if by is None else by.pk)
        [row] = [
            each
            for each in suppressions.find(channel, address)
            if each.reason == suppressions.Reason.PERSON
        ]
        audit(by, row, ADDITION, f"Suppressed. {note}".strip())
    return row


def unsuppress(row: Suppression, *, by: Person = None) -> None:
    """Let the address be written to again, as far as this reason goes."""
    with transaction.atomic(using=router.db_for_write(Suppression)):
        audit(by, row, DELETION, f"Lifted: {row.get_reason_display()} ({row.source}).")
        row.delete()


def synchronise(*, by: Person = None) -> int:
    """Have templates and suppression lists copied from their providers now; how many providers."""
    names = [each.name for each in synchronising.providers()]
    with transaction.atomic(using=router.db_for_write(Task)):
        get_task("notifications.synchronise_provider").bulk_enqueue(
            {"provider": name} for name in names
        )
        audit_queue(by, "", f"Copied the lists of {', '.join(names) or 'no provider'}.")
    return len(names)


def erase(
    user: AbstractBaseUser | None = None, *, addresses: Collection[str] = (), by: Person = None
) -> Erased:
    """Take what is known of one person out of all messages to them; see `erase_person`."""
    erased = erase_person(user, addresses=addresses)
    whom = [] if user is None else [f"user {user.pk}"]
    if addresses:
        whom.append(f"{len(addresses)} address{'es' if len(addresses) > 1 else ''}")
    audit_person(by, ", ".join(whom), f"Erased from {erased.messages} messages.")
    return erased


# -- a queue ------------------------------------------------------------------------------------


def pause(
    queue: str,
    *,
    reason: str = "",
    duration: timedelta | None = None,
    by: Person = None,
) -> None:
    """Stop claiming from `queue`, on every machine within a second."""
    seconds = None if duration is None else duration.total_seconds()
    holds.hold(Hold.Scope.QUEUE, queue, reason=reason or "paused", seconds=seconds, by=by)
    held = Hold.objects.get(scope=Hold.Scope.QUEUE, name=queue, lifted_at=None)
    audit(by, held, CHANGE, f"Paused {queue}. {reason}".strip())


def resume(queue: str, *, by: Person = None) -> bool:
    """Lift every hold on `queue`, its providers and its old backlog; whether anything waited."""
    # Before their hold is lifted: whoever is killed in the middle leaves it to be seen. And after
    # it, for what was parked meanwhile; later ones open a hold anew.
    released = _unpark(queue)
    lifted = holds.lift(Hold.Scope.BACKLOG, queue)
    released += _unpark(queue)
    lifted |= holds.lift(Hold.Scope.QUEUE, queue)
    channel = conf.channel_of_queue(queue)
    for provider in channel.providers if channel else ():
        lifted |= holds.lift(Hold.Scope.PROVIDER, provider.name)
    if lifted or released:
        audit_queue(by, queue, f"Resumed {queue}.")
    rings.ring(queue)
    return lifted or released > 0


def lift(held: Hold, *, by: Person = None) -> bool:
    """Lift this one hold, whatever it is on; whether it was still open."""
    of_backlog = held.scope == Hold.Scope.BACKLOG
    if of_backlog and holds.is_open(held):
        _unpark(held.name)  # before and after, as in `resume`
    lifted = holds.lift_this(held)
    if lifted:
        if of_backlog:
            _unpark(held.name)
        audit(by, held, CHANGE, f"Lifted the hold on {held}.")
        rings.ring(*conf.queue_names())
    return lifted


def empty(
    queue: str,
    *,
    upto: int | None = None,
    step: Step = lambda count: None,
    by: Person = None,
) -> int:
    """Cancel everything that waits in `queue`, in small batches, which are told to `step`; how many
    rows. With `upto`, a primary key, what came after that row stays."""
    waiting = waiting_in(queue)
    if upto is not None:
        waiting = waiting.filter(pk__lte=upto)
    cancelled = 0
    for ids in batches(waiting):
        done = waiting.filter(pk__in=ids).update(**EMPTIED)
        cancelled += done
        step(done)
    signals.cleaned.tell(queue=queue, state=State.PENDING.value, count=cancelled, by=key_of(by))
    audit_queue(by, queue, f"Emptied {queue}: {cancelled} rows cancelled.")
    return cancelled


def clean(
    *,
    states: Collection[str] | None = None,
    older_than: timedelta | None = None,
    queue: str | None = None,
    dry_run: bool = False,
    step: Step = lambda count: None,
    by: Person = None,
) -> Cleaned:
    """Remove rows that ended long enough ago, and what RQ's registries keep of our queues.

    Each batch of rows is told to `step`.

    Without `states` and `older_than` the ages of NOTIFICATIONS["RETENTION"] apply. Waiting rows
    are never removed: see `empty`. Raises WrongState for a state that is no end.
    """
    removed = retention.remove(
        states=states, older_than=older_than, queue=queue, dry_run=dry_run, step=step
    )
    jobs = 0 if dry_run else clean_registries([queue] if queue else conf.queue_names())
    if not dry_run:
        audit_queue(by, queue or "", f"Cleaned {removed} rows.")
    return Cleaned(rows=removed, jobs=jobs)


def clean_registries(queues: Sequence[str]) -> int:
    """Let RQ forget the finished, failed and lost jobs of `queues`; how many. 0 without Redis."""
    gone = 0
    for name in queues:
        try:
            gone += _clean_registries_of(name)
        except RedisError as error:
            logger.warning("RQ's registries of %s not cleaned: %s", name, type(error).__name__)
    return gone


def drain(queue: str, *, stopping: Callable[[], bool] = lambda: False) -> None:
    """Deliver what is due in `queue` here and now, without Redis: for emergencies and cron."""
    Service((queue,), stopping=stopping, shared_rate=False).run()


def waiting_in(queue: str) -> QuerySet[Any]:
    """What waits in `queue` and may still be withdrawn: a claimed row too, until it is started."""
    rows = _model_of(queue)._default_manager.filter(queue=queue, state=State.PENDING)
    return rows.filter(Q(started=False) | Q(token=None))


def count_waiting(queue: str, *, most: int = 1_000_000) -> int:
    """How many rows wait in `queue`; counts no further than `most`."""
    waiting = _model_of(queue)._default_manager.filter(queue=queue, state=State.PENDING)
    return waiting.order_by()[:most].count()


def adopt(*, by: Person = None) -> str:
    """Say that this database belongs to this environment; the environment it belonged to."""
    former = holds.stamp()
    Stamp.objects.filter(pk=1).update(environment=conf.environment(), created_at=Now())
    holds.forget()
    audit(by, Stamp.objects.get(pk=1), CHANGE, f"Adopted from {former!r}.")
    return former


# -- parts --------------------------------------------------------------------------------------


def tell_removed(rows: Iterable[Notification | Task], state: str, *, by: Person) -> None:
    """Say after the commit that `rows`, which stand so, will not go out."""
    using = router.db_for_write(Notification)
    signals.removed.tell_rows(rows, using=using, state=str(state), by=key_of(by))


def key_of(by: Person) -> Any:
    """How signals name a person."""
    return None if by is None else by.pk


def _each(rows: QuerySet[Any], verb: Callable[..., None], by: Person) -> int:
    """Do `verb` to each row; those in the wrong state are left alone. How many were done."""
    done = 0
    for row in rows.iterator(chunk_size=BATCH):
        try:
            verb(row, by=by)
        except WrongState as error:
            logger.info("left alone: %s", error)
        else:
            done += 1
    return done


def _retry_letter(letter: DeadLetter, *, by: Person) -> None:
    retry(letter.work, by=by)


def _state_of(row: Notification | Task) -> str:
    now = type(row)._default_manager.filter(pk=row.pk).first()
    if now is None:
        return "gone"
    return "erased" if getattr(now, "erased_at", None) else str(now.state)


def _link(row: Notification | Task) -> dict[str, Any]:
    return {"task": row} if isinstance(row, Task) else {"notification": row}


def _model_of(queue: str) -> type[Notification] | type[Task]:
    return Task if conf.channel_of_queue(queue) is None else Notification


def _unpark(queue: str) -> int:
    """Let the rows go that wait for a person; how many."""
    rows = _model_of(queue)._default_manager.filter(queue=queue, state=State.PENDING)
    released = 0
    for priority in Priority.values:
        # One priority after the other, in this order: so the claim index leads to them.
        parked = rows.filter(priority=priority, due_at__gte=outbox.PARKED).order_by("due_at")
        while ids := list(parked.values_list("pk", flat=True)[:BATCH]):
            released += parked.filter(pk__in=ids).update(due_at=Now(), wanted_at=Now(), reason="")
    return released


def _clean_registries_of(name: str) -> int:
    ours = conf.owns_queue(name)
    # Never with pickle: what lies in the registries of our queues is not trusted.
    queue: Queue = django_rq.get_queue(name, serializer=JSONSerializer if ours else None)
    gone = 0
    for registry_class in (StartedJobRegistry, FinishedJobRegistry, FailedJobRegistry):
        registry = registry_class(queue=queue)
        before = registry.count
        if ours:
            # A ring that ended or was lost is worth nothing: its rows are due all the same.
            for job_id in registry.get_job_ids(cleanup=False):
                queue.connection.delete(f"{Job.redis_job_namespace_prefix}{job_id}")
            queue.connection.delete(registry.key)
        else:
            registry.cleanup()
        gone += before - registry.count
    return gone
