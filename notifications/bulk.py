"""What a person asks for many rows at once, done in the background.

    frozen = freeze_letters(match={"fingerprint": "…"})     which rows, and how many
    row = start(Verb.RETRY, frozen, canary=5, by=person)    a task, whose row tells how far it is

Which rows are meant is frozen when it is asked for: those chosen, or those that match and are there
by then. Each batch is one transaction, so that a worker which dies loses nothing and does nothing
twice: what is done no longer matches. Between batches others have their turn. With a canary, a few
rows go first, and the others only if those arrive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.db import models, router, transaction
from django.db.models.functions import Now

from notifications import operations, outbox, retention, rings, signals
from notifications.audit import (
    ADDITION,
    CHANGE,
    DELETION,
    Person,
    audit,
    audit_all,
    audit_queue,
)
from notifications.errors import NotYet, WrongState
from notifications.models import DeadLetter, Notification, Priority, State, Task
from notifications.tasks import current_task, task

BATCH = 500  # rows of one transaction
SLICE = 5.0  # seconds after which other tasks have their turn
CANARIES = 5
MOST_CHOSEN = 10_000  # primary keys that a task's payload may hold
CANARY_LOOK = 2.0  # seconds between looks at what became of the canaries
CANARY_PATIENCE = timedelta(minutes=10)  # without an answer by then, the others stay

MATCHED = ("queue", "name", "error", "code", "fingerprint")  # columns of dead letters

_FAILED = {State.DEAD, State.UNKNOWN, State.BOUNCED, State.COMPLAINED}


class Verb(StrEnum):
    """What is done to rows."""

    RETRY = "retry"  # dead letters
    DISCARD = "discard"  # dead letters
    EMPTY = "empty"  # what waits in a queue


@dataclass(frozen=True, slots=True)
class Frozen:
    """Rows as they were when somebody asked. What has left them by then stays as it is."""

    count: int
    upto: int  # the newest primary key
    ids: Sequence[int] = ()  # those chosen; empty: all that match
    match: Mapping[str, str] = field(default_factory=dict)  # by column


def freeze_letters(
    *, ids: Sequence[int] | None = None, match: Mapping[str, str] | None = None
) -> Frozen:
    """These dead letters, or all with these values in columns of MATCHED.

    Raises WrongState for a column that is not among them, and for more than MOST_CHOSEN `ids`.
    """
    match = dict(match or {})
    if not match.keys() <= set(MATCHED):
        raise WrongState(f"Dead letters can be chosen by {', '.join(MATCHED)} only.")
    if ids is not None and len(ids) > MOST_CHOSEN:
        raise WrongState(f"More than {MOST_CHOSEN} dead letters can be chosen by a filter only.")
    rows = DeadLetter.objects.filter(**match)
    if ids is not None:
        rows = rows.filter(pk__in=ids)
    return _freeze(rows, ids=sorted(ids or ()), match=match)


def freeze_queue(queue: str) -> Frozen:
    """What waits in `queue` and is not being sent."""
    rows = operations.waiting_in(queue)
    return _freeze(rows, match={"queue": queue})


def letters_of(frozen: Frozen) -> models.QuerySet[DeadLetter]:
    """Those of the frozen dead letters that are still there."""
    rows = DeadLetter.objects.filter(**frozen.match, pk__lte=frozen.upto)
    return rows.filter(pk__in=frozen.ids) if frozen.ids else rows


def start(verb: Verb, frozen: Frozen, *, canary: int = 0, by: Person = None) -> Task:
    """Do it in the background; the task. Raises WrongState when there is nothing to do."""
    if not frozen.count:
        raise WrongState("There is nothing to do.")
    payload = {"verb": verb.value, "frozen": asdict(frozen), "canary": canary}
    with transaction.atomic(using=router.db_for_write(Task)):
        row: Task = work_off.enqueue(**payload, by=_key(by))
        audit(by, row, ADDITION, f"Asked for: {describe(row)}.")
    return row


def start_cleaning(queue: str, *, states: Sequence[str], older_than: timedelta, by: Person) -> Task:
    """Remove what ended in `queue`, in one of `states` and so long ago, in the background.

    Raises WrongState for a state that is no end.
    """
    retention.check_ends(states)
    with transaction.atomic(using=router.db_for_write(Task)):
        row: Task = clean.enqueue(
            queue=queue,
            states=sorted(states),
            seconds=older_than.total_seconds(),
            by=_key(by),
        )
        audit(by, row, ADDITION, f"Asked for: {describe(row)}.")
    return row


def stop(row: Task, *, by: Person = None) -> None:
    """End a task of this module between two batches; what is done is done.

    Raises WrongState for one that has ended, and for any other task.
    """
    with transaction.atomic(using=router.db_for_write(Task)):
        stopped = Task.objects.filter(pk=row.pk, name=work_off.name, state=State.PENDING).update(
            state=State.CANCELLED, token=None, settled_at=Now(), reason="stopped"
        )
        if not stopped:
            raise WrongState(f"{row} cannot be stopped.")
        audit(by, row, CHANGE, "Stopped.")
        operations.tell_removed([row], State.CANCELLED, by=by)


def describe(row: Task) -> str:
    """What a task of this module does, in words for people; empty for other tasks."""
    if row.name == clean.name:
        return f"clean {row.payload['queue']} of {', '.join(row.payload['states'])}"
    if row.name != work_off.name:
        return ""
    frozen = row.payload["frozen"]
    noun = "waiting in" if row.payload["verb"] == Verb.EMPTY else "dead letters"
    match = frozen["match"]
    what = match["queue"] if noun == "waiting in" else ", ".join(match.values())
    return f"{row.payload['verb']} {frozen['count']} {noun} {what}".rstrip()


def count_done(row: Task) -> str:
    """How far a task of this module is: "120 of 500", and why it stopped; empty for others."""
    result = row.result or {}
    if row.name != work_off.name or not result:
        return ""
    far = f"{result['done']} of {result['of']}"
    return f"{far}; stopped: {result['stopped']}" if "stopped" in result else far


def can_stop(row: Task) -> bool:
    """Whether `stop` may be called for `row`."""
    return row.name == work_off.name and row.state == State.PENDING


@task(name="notifications.bulk", priority=Priority.HIGH, atomic=False, timeout=120.0)
def work_off(
    verb: str, frozen: Mapping[str, Any], canary: int = 0, by: Any = None
) -> dict[str, Any]:
    """Do `verb` to the rows that were frozen; how many of how many. Raises NotYet in between."""
    job = _Job(Verb(verb), Frozen(**frozen), _person(by))
    if canary and not job.send_canaries(canary):
        return job.result
    until = time.monotonic() + SLICE
    while keys := job.next_keys(BATCH):
        if not job.do(keys):
            return job.result  # it was cancelled
        if time.monotonic() > until:
            raise NotYet(0.0)
    if job.verb is Verb.EMPTY:
        queue, done = job.frozen.match["queue"], job.result["done"]
        audit_queue(job.person, queue, f"Emptied {queue}: {done} rows cancelled.")
        person = operations.key_of(job.person)
        signals.cleaned.tell(queue=queue, state=State.PENDING.value, count=done, by=person)
    return job.result


@task(name="notifications.clean", priority=Priority.LOW, atomic=False, timeout=600.0)
def clean(queue: str, states: Sequence[str], seconds: float, by: Any = None) -> dict[str, Any]:
    """Remove what ended in `queue` so many seconds ago; how many rows, and jobs of RQ's."""
    age = timedelta(seconds=seconds)
    return asdict(operations.clean(states=states, older_than=age, queue=queue, by=_person(by)))


class _Job:
    """One slice of the work, and what is known of the former ones."""

    def __init__(self, verb: Verb, frozen: Frozen, person: Any) -> None:
        self.verb, self.frozen, self.person = verb, frozen, person
        self.row = current_task()
        former = (self.row and self.row.result) or {}
        self.result: dict[str, Any] = {"done": 0, "of": frozen.count, **former}
        self._last = 0

    def next_keys(self, count: int) -> list[int]:
        """The oldest of the rows that are left."""
        rows = self._rows().filter(pk__gt=self._last).order_by("pk")
        keys = list(rows.values_list("pk", flat=True)[:count])
        self._last = keys[-1] if keys else self._last
        return keys

    def do(self, keys: Sequence[int], *, canaries: bool = False) -> bool:
        """Do it to the rows with these `keys`; whether the task was still ours, else nothing is."""
        using = router.db_for_write(DeadLetter)
        with transaction.atomic(using=using):
            done, works = self._verb()(keys, by=self.person)
            self.result["done"] += done
            if canaries:
                self.result |= {"canaries": works, "canaries_at": self._now().isoformat()}
            ours = self._tell()
            if not ours:  # cancelled, or another worker has it
                transaction.set_rollback(True, using=using)
        return ours

    def send_canaries(self, count: int) -> bool:
        """Send `count` rows first; whether they have arrived. Raises NotYet until that is known."""
        if "canaries" not in self.result:
            if self.do(self.next_keys(count), canaries=True):
                raise NotYet(CANARY_LOOK)
            return False
        states = [_state(label, key) for label, key in self.result["canaries"]]
        failed = [state for state, _attempts in states if state in _FAILED]
        failed += [state for state, tried in states if state == State.PENDING and tried]
        if failed:
            return self._stop(f"{len(failed)} of {len(states)} sent first failed again")
        if any(state == State.PENDING for state, _attempts in states):
            if self._now() - datetime.fromisoformat(self.result["canaries_at"]) < CANARY_PATIENCE:
                raise NotYet(CANARY_LOOK)
            return self._stop(f"not all of the {len(states)} sent first have gone out in time")
        return True

    def _now(self) -> datetime:
        """By the database's clock: the next slice may run on another machine."""
        assert self.row is not None
        rows = Task.objects.using(router.db_for_write(Task)).filter(pk=self.row.pk)
        return rows.annotate(now=Now()).values_list("now", flat=True).get()

    def _stop(self, reason: str) -> bool:
        self.result["stopped"] = reason
        return False

    def _rows(self) -> models.QuerySet[Any]:
        if self.verb is Verb.EMPTY:
            return operations.waiting_in(self.frozen.match["queue"]).filter(
                pk__lte=self.frozen.upto
            )
        return letters_of(self.frozen)

    def _verb(self) -> Callable[..., tuple[int, list[tuple[str, int]]]]:
        if self.verb is Verb.EMPTY:
            return partial(_empty, self.frozen.match["queue"])
        return {Verb.RETRY: _retry, Verb.DISCARD: _discard}[self.verb]

    def _tell(self) -> bool:
        if self.row is None:  # called as a plain function
            return True
        share = min(99, 100 * self.result["done"] // max(1, self.frozen.count))
        ours = outbox.update_ours(self.row, progress=share, result=self.result)
        if ours:
            using = router.db_for_write(Task)
            signals.progress.tell_rows([self.row], using=using, percent=share)
        return ours


# -- one batch: how many rows, and which -------------------------------------------------------


def _retry(keys: Sequence[int], *, by: Person) -> tuple[int, list[tuple[str, int]]]:
    works: list[tuple[str, int]] = []
    for model in (Notification, Task):
        link = str(model._meta.model_name)
        letters = DeadLetter.objects.filter(pk__in=keys, **{f"{link}__isnull": False})
        # The rows first, then their letters: whatever locks both does so in this order. A row that
        # was erased while we waited for it has nothing left to send.
        dead = operations.retriable(
            model._default_manager.filter(pk__in=list(letters.values_list(link, flat=True)))
        )
        ours = list(dead.order_by("pk").select_for_update(no_key=True).defer(*_HEAVY[model]))
        pks = [row.pk for row in ours]
        model._default_manager.filter(pk__in=pks).update(**operations.AFRESH)
        DeadLetter.objects.filter(**{f"{link}__in": pks}).delete()
        audit_all(by, ours, CHANGE, "Retried.")
        using = router.db_for_write(model)
        signals.waiting.tell_rows(ours, using=using, by=operations.key_of(by))
        for queue in {row.queue for row in ours}:
            rings.ring_on_commit(queue, using)
        works += [(link, pk) for pk in pks]
    return len(works), works


def _discard(keys: Sequence[int], *, by: Person) -> tuple[int, list[tuple[str, int]]]:
    letters = DeadLetter.objects.filter(pk__in=keys).order_by("pk").select_for_update()
    ours = list(letters.defer("traceback"))
    audit_all(by, ours, DELETION, "Discarded without sending.")
    operations.tell_removed(_works_of(ours), State.DEAD, by=by)
    DeadLetter.objects.filter(pk__in=[letter.pk for letter in ours]).delete()
    return len(ours), []


def _works_of(letters: Sequence[DeadLetter]) -> Iterator[Notification | Task]:
    """The rows that gave up; nobody asks for them unless somebody listens."""
    for model, heavy in _HEAVY.items():
        pks = [getattr(letter, f"{model._meta.model_name}_id") for letter in letters]
        yield from model._default_manager.filter(pk__in=pks).defer(*heavy)


def _empty(queue: str, keys: Sequence[int], *, by: Person) -> tuple[int, list[tuple[str, int]]]:
    cancelled = operations.waiting_in(queue).filter(pk__in=keys)
    return cancelled.update(**operations.EMPTIED), []


def _freeze(rows: models.QuerySet[Any], **chosen: Any) -> Frozen:
    newest = rows.order_by("-pk").values_list("pk", flat=True).first() or 0
    return Frozen(count=rows.order_by().count(), upto=newest, **chosen)


def _key(by: Person) -> str | None:
    """A person's key as a payload holds it; it may be a UUID."""
    return None if by is None or by.pk is None else str(by.pk)


def _person(pk: Any) -> Any:
    return get_user_model()._default_manager.filter(pk=pk).first()


def _state(label: str, key: int) -> tuple[str, int]:
    model = {"notification": Notification, "task": Task}[label]
    found = model._default_manager.filter(pk=key).values_list("state", "attempts").first()
    return found or (State.CANCELLED, 0)


_HEAVY: dict[Any, tuple[str, ...]] = {
    Notification: ("content", "context"),
    Task: ("payload", "result"),
}
