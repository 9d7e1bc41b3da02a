"""What must wait: opened by a person or by a provider's refusal, looked at before every claim."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import router
from django.db.models import Q, Value
from django.db.models.functions import Now

from notifications import conf
from notifications.models import Hold, Stamp

logger = logging.getLogger("notifications.holds")

FRESH = 0.5  # seconds a process may go on with what it knows; a pause must hold within one second


@dataclass(frozen=True, slots=True)
class Holds:
    """The open holds, by scope, each with its reason."""

    everything: str | None = None
    queues: dict[str, str] = field(default_factory=dict)
    providers: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

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
    until = None if seconds is None else Now() + timedelta(seconds=seconds)
    fields: dict[str, Any] = {"reason": reason[:300], "cause": cause, "until": until, "by": by}
    held = Hold.objects.filter(scope=scope, name=name, lifted_at=None)
    if not held.update(**fields):
        Hold.objects.bulk_create([Hold(scope=scope, name=name, **fields)], ignore_conflicts=True)
        logger.warning("held %s %s: %s", scope, name, reason)
    forget()


def lift(scope: str, name: str = "") -> bool:
    """Lift a hold; whether there was one."""
    lifted = Hold.objects.filter(scope=scope, name=name, lifted_at=None).update(lifted_at=Now())
    if lifted:
        logger.warning("lifted the hold on %s %s", scope, name)
    forget()
    return bool(lifted)


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
        .filter(Q(until=None) | Q(until__gt=Now()), lifted_at=None)
        .values_list("scope", "name", "reason")
    )
    stamped = Stamp.objects.using(using).values_list(Value("stamp"), "environment", Value(""))
    scopes: dict[str, dict[str, str]] = {scope: {} for scope in (*Hold.Scope.values, "stamp")}
    # One query for both: this stands between every ring and its message.
    for scope, name, reason in opened.union(stamped, all=True):
        scopes[scope][name] = reason or "paused"
    return Holds(
        everything=_foreign(next(iter(scopes["stamp"]), None)) or scopes[Hold.Scope.ALL].get(""),
        queues=scopes[Hold.Scope.QUEUE],
        providers=scopes[Hold.Scope.PROVIDER],
        kinds=scopes[Hold.Scope.KIND],
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
