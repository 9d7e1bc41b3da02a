"""Durable calls of registered functions, after the shape of Django's Tasks API.

    @task(queue_name="documents")
    def make_invoice(order_id: int) -> dict: ...

    make_invoice.enqueue(order_id=7)
    make_invoice.using(run_after=timedelta(hours=1)).enqueue(order_id=7)

A call is a `Task` row in the caller's transaction. A worker claims one, runs it and settles it:
in one transaction if the function is `atomic`, so that one which crashes and runs again doubles
nothing it wrote. A failure is tried again by the policy and ends as a dead letter; a task that
raises `NotYet` is only put off.
"""

from __future__ import annotations

import json
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, overload

from croniter import croniter
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router, transaction
from django.db.models.functions import Now

from notifications import conf, holds, inserts, outbox, rings, signals, tracing
from notifications.errors import (
    InvalidPayload,
    KeyReused,
    NotYet,
    OutsideTransaction,
    TaskTimeout,
    UnknownTask,
)
from notifications.message import Outcome, Verdict
from notifications.models import Attempt, Priority, Schedule, State, Task
from notifications.outbox import DeadLetterDraft, Settlement
from notifications.redaction import describe, safe_traceback
from notifications.retries import Again, GiveUp, RetryPolicy, decide
from notifications.timelimits import time_limit

logger = logging.getLogger("notifications.tasks")

RETURN_SECONDS = 30.0  # when a task this process does not know is offered again
MARGIN = 5.0  # seconds of lease beyond the task's timeout, to settle in

# Made once: that costs as much as writing a small payload.
_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # as JSON writes it

_registry: dict[str, TaskFunction] = {}
_current: ContextVar[Task | None] = ContextVar("notifications_current_task", default=None)


class _LostLease(Exception):
    """Raised to roll a task back when another worker has its row."""


@dataclass(frozen=True, slots=True)
class TaskFunction:
    """A registered function and how its calls are queued."""

    name: str  # stable: rows refer to it
    func: Callable[..., Any]
    queue_name: str | None = None  # None: NOTIFICATIONS["TASK_QUEUE"]
    priority: Priority = Priority.NORMAL
    retry: RetryPolicy | None = None  # None: NOTIFICATIONS["RETRY"]
    timeout: float | None = None  # seconds; None: NOTIFICATIONS["TASK_TIMEOUT"]
    atomic: bool = True  # run and settle in one transaction
    schedule: str | timedelta | None = None  # crontab in UTC, or an interval
    run_after: datetime | timedelta | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        Priority(self.priority)  # refuses a number that is none, here and now

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it here and now, as a plain function."""
        return self.func(*args, **kwargs)

    @property
    def queue(self) -> str:
        """The queue its calls wait in."""
        return self.queue_name or str(conf.get("TASK_QUEUE"))

    @property
    def seconds(self) -> float:
        """How long a call may run."""
        return float(conf.get("TASK_TIMEOUT") if self.timeout is None else self.timeout)

    def using(self, **changes: Any) -> TaskFunction:
        """The same function with other options: run_after, priority, queue_name, retry, key."""
        return replace(self, **changes)

    def enqueue(self, **payload: Any) -> Task:
        """One durable call, with keyword arguments of plain values. Raises InvalidPayload.

        With a `key`, a second call of the same key returns the first row, and raises KeyReused if
        its arguments are others.
        """
        return self.bulk_enqueue([payload])[0]

    def bulk_enqueue(self, payloads: Iterable[Mapping[str, Any]]) -> list[Task]:
        """Many calls of this function in one statement."""
        return insert([self.row(dict(payload)) for payload in payloads])

    def row(self, payload: dict[str, Any], **fields: Any) -> Task:
        """The unsaved row of one call."""
        check_plain(payload, where=f"the payload of {self.name}")
        task = Task(
            name=self.name,
            queue=self.queue,
            priority=self.priority,
            payload=payload,
            retry=None if self.retry is None else _policy_fields(self.retry),
            key=self.key,
            trace=tracing.parent(),
            **fields,
        )
        due = due_at(self.run_after)
        if due is not None:
            task.due_at = task.wanted_at = due
        return task


@overload
def task(function: Callable[..., Any], /) -> TaskFunction: ...


@overload
def task(
    *,
    name: str | None = None,
    queue_name: str | None = None,
    priority: Priority = Priority.NORMAL,
    retry: RetryPolicy | None = None,
    timeout: float | None = None,
    atomic: bool = True,
    schedule: str | timedelta | None = None,
) -> Callable[[Callable[..., Any]], TaskFunction]: ...


def task(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    queue_name: str | None = None,
    priority: Priority = Priority.NORMAL,
    retry: RetryPolicy | None = None,
    timeout: float | None = None,
    atomic: bool = True,
    schedule: str | timedelta | None = None,
) -> TaskFunction | Callable[[Callable[..., Any]], TaskFunction]:
    """Register a function as a task, plain (`@task`) or with options (`@task(timeout=5)`).

    With `schedule`, a crontab expression in UTC or an interval, the clock also calls it without
    arguments at every slot, once however many clocks run.
    """

    if isinstance(schedule, str) and not croniter.is_valid(schedule):
        raise ImproperlyConfigured(f"{schedule!r} is no crontab expression")

    def register(func: Callable[..., Any]) -> TaskFunction:
        made = TaskFunction(
            name=name or f"{func.__module__}.{func.__qualname__}",
            func=func,
            queue_name=queue_name,
            priority=priority,
            retry=retry,
            timeout=timeout,
            atomic=atomic,
            schedule=schedule,
        )
        _registry[made.name] = made
        return made

    return register if function is None else register(function)


def get_task(name: str) -> TaskFunction:
    """The function registered as `name`. Raises UnknownTask."""
    try:
        return _registry[name]
    except KeyError:
        raise UnknownTask(
            f"No task named {name!r} is registered. Tasks are declared in <app>/notifications.py "
            "of an installed app, or imported from there."
        ) from None


def all_tasks() -> dict[str, TaskFunction]:
    """Every registered task by name, sorted by name."""
    return dict(sorted(_registry.items()))


def current_task() -> Task | None:
    """The row of the task that runs now, if one does."""
    return _current.get()


def set_progress(percent: int) -> None:
    """Show how far the running task is. Only for tasks declared with `atomic=False`.

    Raises RuntimeError elsewhere: inside the task's transaction nobody could see it.
    """
    row = _current.get()
    if row is None:
        return
    if get_task(row.name).atomic:
        raise RuntimeError(f"{row.name} reports progress: declare it with @task(atomic=False)")
    percent = max(0, min(100, percent))
    if outbox.update_ours(row, progress=percent):
        signals.progress.tell_rows([row], using=router.db_for_write(Task), percent=percent)


def insert(rows: list[Task]) -> list[Task]:
    """Write rows in the caller's transaction and ring their queues after its commit."""
    using = router.db_for_write(Task)
    require_transaction(using)
    if any(row.key is not None for row in rows):
        rows = _insert_once(rows, using)
    else:
        inserts.insert(rows, using=using)
    for queue in {row.queue for row in rows}:
        rings.ring_on_commit(queue, using)
    signals.waiting.tell_rows(rows, using=using)
    return rows


def run_due(queue: str) -> bool:
    """Claim one due task of `queue` and run it; whether there was one."""
    rows = outbox.claim(Task, queue, 1)
    for row in rows:
        _run(row)
    return bool(rows)


def tick_schedules() -> None:
    """Turn every schedule slot that has come since the last tick into one task."""
    for function in _registry.values():
        if function.schedule is not None and not holds.current().everything:
            _tick(function, function.schedule)


def due_at(when: datetime | timedelta | float | None) -> Any:
    """The value for `due_at`: a time, or a distance from the database's now. None for now."""
    if when is None:
        return None
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise ValueError(f"{when!r} has no time zone; use django.utils.timezone")
        return when
    return Now() + (when if isinstance(when, timedelta) else timedelta(seconds=when))


def check_plain(values: Mapping[str, Any], *, where: str) -> None:
    """Raise InvalidPayload unless `values` is plain JSON that every database stores: it is read
    much later, and what the database refuses breaks the caller's transaction."""
    try:
        written = _encode(values)
        written.encode()
    except UnicodeEncodeError as error:
        raise InvalidPayload(
            f"{where} holds half a character ({error.object[error.start]!a}, a lone surrogate), "
            "which no database stores. Take it out, or decode the text anew."
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPayload(
            f"{where} must be plain values (text, numbers, true/false, None, lists, dicts): "
            f"{error}. Pass ids instead of objects, and text instead of dates and decimals."
        ) from None
    # Looked for in two steps: the first is quick, and finds a backslash followed by "u0000", too.
    if "\\u0000" in written and _NUL.search(written):
        raise InvalidPayload(
            f"{where} holds a NUL character, which PostgreSQL does not store. Take it out."
        )


def require_transaction(using: str) -> None:
    """Warn outside a transaction, or refuse in strict mode: a crash between the change and the
    message would lose one of them."""
    if connections[using].in_atomic_block:
        return
    advice = "Wrap the change and the call in transaction.atomic(): they then succeed together."
    if conf.get("STRICT"):
        raise OutsideTransaction(f"Outside a transaction. {advice}")
    warnings.warn(
        f"Published or notified outside a transaction. {advice}", RuntimeWarning, stacklevel=4
    )


def _insert_once(rows: list[Task], using: str) -> list[Task]:
    """Insert `rows`, of which some have a key: of one key each function has one call."""
    # A key that is refused takes back what this call wrote beside it; of one row that is nothing.
    with transaction.atomic(using=using) if len(rows) > 1 else nullcontext():
        kept = inserts.insert_once(rows, using=using, unique=("name", "key"))
        for row, one in zip(rows, kept, strict=True):
            if json.loads(json.dumps(row.payload)) != one.payload:
                raise KeyReused(
                    f"The key {row.key!r} was used before, for {one} with other arguments: give "
                    "another key to this call."
                )
    return kept


def _run(row: Task) -> None:
    try:
        function = get_task(row.name)
    except UnknownTask:
        logger.warning("no task named %s here: given back for a newer worker", row.name)
        outbox.release([row], after=RETURN_SECONDS, reason="task unknown to a worker")
        return
    if row.started:
        _settle_lapsed(row, function)
        return
    if not outbox.start([row], lease=function.seconds + MARGIN):
        return
    began = time.monotonic()
    token = _current.set(row)
    try:
        with tracing.running(row), time_limit(function.seconds), _around(function):
            result = function.func(**row.payload)
            _check_result(result, function)
            attempt = _attempt(row, "done", milliseconds=_since(began))
            if not outbox.settle([Settlement(row, State.DONE, result=result)], [attempt]):
                raise _LostLease
    except _LostLease:
        logger.warning("task %s (%s) lost its lease; nothing was kept", row.pk, row.name)
    except NotYet as wait:
        outbox.release([row], after=wait.after, reason=str(wait))
    except (Exception, TaskTimeout) as error:
        _fail(row, function, error, milliseconds=_since(began))
    finally:
        _current.reset(token)


def _around(function: TaskFunction) -> AbstractContextManager[Any]:
    if not function.atomic:
        return nullcontext()
    return transaction.atomic(using=router.db_for_write(Task))


def _check_result(result: Any, function: TaskFunction) -> None:
    check_plain({"result": result}, where=f"the result of {function.name}")


def _fail(row: Task, function: TaskFunction, error: BaseException, *, milliseconds: int) -> None:
    text = describe(error, private=[row.payload])
    logger.warning("task %s (%s) failed: %s", row.pk, row.name, text)
    outcome = Outcome(
        Verdict.LATER,
        text=text,
        error=type(error).__qualname__,
        traceback=safe_traceback(error, private=[row.payload]),
    )
    attempt = _attempt(row, "later", text=outcome.text, milliseconds=milliseconds)
    outbox.settle([_judge(row, function, outcome)], [attempt])


def _settle_lapsed(row: Task, function: TaskFunction) -> None:
    """The former worker died while it ran: that was an attempt, and it goes again at once."""
    outcome = Outcome(Verdict.UNKNOWN, code="lease_lost", text="its worker died while running it")
    settlement = replace(_judge(row, function, outcome), lapsed=True)
    if settlement.state is State.PENDING:
        settlement = replace(settlement, after=0.0)
    outbox.settle([settlement], [_attempt(row, "unknown", code=outcome.code, text=outcome.text)])


def _judge(row: Task, function: TaskFunction, outcome: Outcome) -> Settlement:
    policy = function.retry or conf.retry_policy()
    decision = decide(
        outcome, attempt=row.attempts + 1, policy=policy.with_overrides(row.policy_changes)
    )
    if isinstance(decision, Again):
        return Settlement(row, State.PENDING, after=decision.after, reason=decision.reason)
    assert isinstance(decision, GiveUp)
    draft = DeadLetterDraft(decision.reason, outcome.error, outcome.code, outcome.traceback)
    return Settlement(row, State.DEAD, reason=decision.reason, dead=draft)


def _attempt(
    row: Task, outcome: str, *, code: str = "", text: str = "", milliseconds: int = 0
) -> Attempt:
    return Attempt(
        task_id=row.pk,
        number=row.attempts + 1,
        outcome=outcome,
        code=code,
        text=text[:500],
        milliseconds=milliseconds,
    )


def _tick(function: TaskFunction, schedule: str | timedelta) -> None:
    using = router.db_for_write(Schedule)
    rows = Schedule.objects.using(using)
    found = rows.filter(name=function.name).annotate(now=Now()).first()
    if found is None:
        rows.bulk_create([Schedule(name=function.name)], ignore_conflicts=True)
        return
    slot = _last_slot(schedule, found.now)
    if slot <= found.last_slot:
        return
    with transaction.atomic(using=using):
        # Of many clocks the one whose UPDATE finds an earlier slot makes the task. (Earlier, and
        # not the one just read: SQLite compares text, and CURRENT_TIMESTAMP has fewer digits.)
        won = rows.filter(name=function.name, last_slot__lt=slot).update(last_slot=slot)
        if won:
            function.using(key=f"{slot:%Y-%m-%dT%H:%M:%S}Z").enqueue()


def _last_slot(schedule: str | timedelta, now: datetime) -> datetime:
    if isinstance(schedule, timedelta):
        step = schedule.total_seconds()
        return datetime.fromtimestamp(now.timestamp() // step * step, tz=UTC)
    latest: datetime = croniter(schedule, now + timedelta(seconds=1)).get_prev(datetime)
    return latest


def _policy_fields(policy: RetryPolicy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in policy.__slots__}


def _since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)
