"""What must wait: opened by a person or by a provider's refusal, looked at before every claim."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import router
from django.db.models import Case, F, QuerySet, Value, When
from django.db.models.functions import Now

from notifications import conf, signals
from notifications.models import Hold, Stamp

logger = logging.getLogger("notifications.holds")

FRESH = 0.5  # seconds a process may go on with what it knows; a pause must hold within one second


@dataclass(frozen=True, slots=True)
class Holds:
    """The open holds, by scope, each with its reason."""

    everything: str | None = None
    queues: dict[str, str] = field(default_factory=dict)
    providers: dict[str, str] = field(default_factory=dict)
    half_open: dict[str, str] = field(default_factory=dict)  # providers that may be probed
    kinds: dict[str, str] = field(default_factory=dict)
    templates: dict[str, str] = field(default_factory=dict)  # of a kind on a channel: see below

    def stops(self, queue: str) -> str | None:
        """Why nothing of `queue` may be claimed, or None."""
        if self.everything is not None:
            return self.everything
        if queue in self.queues:
            return self.queues[queue]
        channel = conf.channel_of_queue(queue)
        if channel is None or not channel.providers:
            return None
        reasons = [self.providers.get(provider.name) for provider in channel.providers]
        return None if None in reasons else f"all providers are held: {reasons[0]}"

    def kinds_of(self, queue: str) -> list[str]:
        """The kinds that must not be claimed from `queue`."""
        if not self.templates:
            return list(self.kinds)
        channel = conf.channel_of_queue(queue)
        prefix = template_of(channel.name, "") if channel else "-"
        held = [name.removeprefix(prefix) for name in self.templates if name.startswith(prefix)]
        return [*self.kinds, *held]


def template_of(channel: str, kind: str) -> str:
    """The name of a hold on what messages of `kind` on `channel` are made from."""
    return f"{channel}/{kind}"


_known: tuple[float, Holds] | None = None


def current() -> Holds:
    """The open holds, at most FRESH seconds old."""
    global _known
    now = time.monotonic()
    if _known is None or now - _known[0] > FRESH:
        _known = (now, _look())
    return _known[1]


def forget() -> None:
    """Look at the database again at the next `current()`."""
    global _known
    _known = None


def hold(
    scope: str,
    name: str = "",
    *,
    reason: str,
    cause: str = Hold.Cause.PERSON,
    seconds: float | None = None,
    by: Any = None,
) -> None:
    """Hold something, for `seconds` or until it is lifted. A second call changes the first."""
    lift_expired(scope=scope, name=name)
    until = None if seconds is None else Now() + timedelta(seconds=seconds)
    fields: dict[str, Any] = {
        "reason": reason[:300], "cause": cause, "until": until, "by": by, "probes": 0,
    }  # fmt: skip
    held = Hold.objects.filter(scope=scope, name=name, lifted_at=None)
    opened = False
    # Until the open row is locked by our transaction, whoever opened it: nobody lifts it unseen.
    while not held.update(**fields):
        Hold.objects.bulk_create([Hold(scope=scope, name=name, **fields)], ignore_conflicts=True)
        opened = True
    if opened:
        _tell_paused(scope, name, reason, cause, seconds, by=by)
    forget()


def lift(scope: str, name: str = "") -> bool:
    """Lift a hold; whether there was one whose time was not over."""
    return _lift(scope, name)


def lift_this(held: Hold) -> bool:
    """Lift this very hold, and none that came after it; whether it was still open."""
    return _lift(held.scope, held.name, pk=held.pk)


def is_open(held: Hold) -> bool:
    """Whether this very hold has not been lifted yet."""
    return Hold.objects.filter(pk=held.pk, lifted_at=None).exists()


def lift_expired(**which: Any) -> int:
    """Lift the holds, all or some, whose time is over, as of then; how many.

    Nothing is held by them any more. The clock does so that this is told, and that what is held
    next has a beginning of its own. A provider's own hold is not over but half open: see below.
    """
    over = Hold.objects.using(router.db_for_write(Hold)).filter(
        **which, lifted_at=None, until__lte=Now()
    )
    lifted = 0
    for held in over.exclude(Hold.half_open()):
        if over.filter(pk=held.pk).update(lifted_at=F("until")):  # of many clocks one tells
            _tell_resumed(held.scope, held.name)
            lifted += 1
    return lifted


# -- a provider's own: opened by trouble, half open when their time is over --------------------


def trip(provider: str, *, reason: str, cause: str, seconds: float) -> None:
    """Leave a provider alone for `seconds`, unless it is held already."""
    lift_expired(scope=Hold.Scope.PROVIDER, name=provider)
    if _of(provider).exists():
        return
    held = Hold(
        scope=Hold.Scope.PROVIDER,
        name=provider,
        reason=reason[:300],
        cause=cause,
        until=Now() + timedelta(seconds=seconds),
    )
    Hold.objects.bulk_create([held], ignore_conflicts=True)  # another worker may be quicker
    _tell_paused(Hold.Scope.PROVIDER, provider, reason, cause, seconds)
    forget()


def probe(provider: str, *, seconds: float) -> bool:
    """Ask to try a half-open provider with one message; nobody else may for `seconds`."""
    won = _of(provider).filter(until__lte=Now()).exclude(cause=Hold.Cause.PERSON)
    forget()
    return bool(won.update(until=Now() + timedelta(seconds=seconds)))


def count_probes(provider: str) -> int:
    """How often a held provider was tried in vain."""
    return _of(provider).values_list("probes", flat=True).first() or 0


def reopen(provider: str, *, reason: str, cause: str, seconds: float) -> None:
    """Leave a provider alone again, after a probe in vain."""
    _of(provider).exclude(cause=Hold.Cause.PERSON).update(
        reason=reason[:300],
        cause=cause,
        until=Now() + timedelta(seconds=seconds),
        probes=F("probes") + 1,
    )
    logger.warning("probed %s in vain, held for %.0f s: %s", provider, seconds, reason)
    forget()


def mend(provider: str) -> None:
    """A message got through: the provider is used as before. A person's hold stays."""
    mended = _of(provider).exclude(cause=Hold.Cause.PERSON).update(lifted_at=Now())
    if mended:
        _tell_resumed(Hold.Scope.PROVIDER, provider)
    forget()


def _lift(scope: str, name: str, **which: Any) -> bool:
    which |= {"scope": scope, "name": name}
    lift_expired(**which)
    lifted = Hold.objects.filter(**which, lifted_at=None).update(lifted_at=Now())
    if lifted:
        _tell_resumed(scope, name)
    forget()
    return bool(lifted)


def _tell_paused(
    scope: str, name: str, reason: str, cause: str, seconds: float | None, *, by: Any = None
) -> None:
    signals.paused.tell_on_commit(
        using=router.db_for_write(Hold), scope=str(scope), held=name, cause=str(cause),
        seconds=seconds, by=None if by is None else by.pk, reason=reason,
    )  # fmt: skip


def _tell_resumed(scope: str, name: str) -> None:
    using = router.db_for_write(Hold)
    signals.resumed.tell_on_commit(using=using, scope=str(scope), held=name)


def _of(provider: str) -> QuerySet[Hold]:
    return Hold.objects.filter(scope=Hold.Scope.PROVIDER, name=provider, lifted_at=None)


# ----------------------------------------------------------------------------------------------


def stamp(using: str | None = None) -> str:
    """The environment this database belongs to; a database without a stamp is stamped now."""
    using = using or router.db_for_write(Stamp)
    if not router.allow_migrate_model(using, Stamp):
        return conf.environment()  # the rows are in another database
    rows = Stamp.objects.using(using)
    found = rows.filter(pk=1).values_list("environment", flat=True).first()
    if found is None:
        rows.bulk_create([Stamp(pk=1, environment=conf.environment())], ignore_conflicts=True)
        found = rows.values_list("environment", flat=True).get(pk=1)
    return found


def _look() -> Holds:
    using = router.db_for_read(Hold)
    opened = (
        Hold.objects.using(using)
        .in_force()
        .annotate(what=Case(When(Hold.half_open(), then=Value("half_open")), default=F("scope")))
        .values_list("what", "name", "reason")
    )
    stamped = Stamp.objects.using(using).values_list(Value("stamp"), "environment", Value(""))
    scopes: dict[str, dict[str, str]] = {
        scope: {} for scope in (*Hold.Scope.values, "half_open", "stamp")
    }
    # One query for both: this stands between every ring and its message.
    for scope, name, reason in opened.union(stamped, all=True):
        scopes[scope][name] = reason or "paused"
    return Holds(
        everything=_foreign(next(iter(scopes["stamp"]), None)) or scopes[Hold.Scope.ALL].get(""),
        queues=scopes[Hold.Scope.QUEUE],
        providers=scopes[Hold.Scope.PROVIDER],
        half_open=scopes["half_open"],
        kinds=scopes[Hold.Scope.KIND],
        templates=scopes[Hold.Scope.TEMPLATE],
    )


def _foreign(stamped: str | None) -> str | None:
    """Why nothing may be sent from a database that carries this stamp; None if it is ours."""
    here = conf.environment()
    stamped = stamp() if stamped is None else stamped
    if here == stamped:
        return None
    return (
        f"this database belongs to {stamped!r} and this process to {here!r}; if that is meant, "
        "run: manage.py notifications_adopt"
    )
