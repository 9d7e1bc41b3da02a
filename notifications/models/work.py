"""The row that both tasks and notifications are: something to do once, durably.

Its life: `pending` until a worker *claims* it (a token, and `due_at` moved to the lease's end),
*starts* it (`started`, set before anything leaves the house) and *settles* it. A row whose worker
died is simply due again when the lease is over; if it was started, its outcome is unknown.
Every move is one conditional UPDATE with the token in its WHERE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise


class Priority(models.IntegerChoices):
    """Who goes first; also the values the claim query walks through."""

    CRITICAL = 0, _("critical")
    HIGH = 1, _("high")
    NORMAL = 2, _("normal")
    LOW = 3, _("low")

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        """Say which there are: a row of any other priority would never be claimed."""
        known = ", ".join(f"{each.name} ({each.value})" for each in cls)
        raise ValueError(f"{value!r} is no priority; there are {known}.")


class State(models.TextChoices):
    """Where a row stands. `TRANSITIONS` tells which moves exist."""

    PENDING = "pending", _("pending")  # waiting, backing off, scheduled or claimed
    SENT = "sent", _("sent")  # a provider accepted it
    DELIVERED = "delivered", _("delivered")
    READ = "read", _("read")
    DONE = "done", _("done")  # a task that returned
    UNKNOWN = "unknown", _("unknown")  # the provider may have it; waits for a receipt or a person
    DEAD = "dead", _("dead")  # gave up; has a dead letter
    CANCELLED = "cancelled", _("cancelled")
    EXPIRED = "expired", _("expired")  # too late to be useful
    SUPPRESSED = "suppressed", _("suppressed")  # must not be sent to this address
    BOUNCED = "bounced", _("bounced")
    COMPLAINED = "complained", _("complained")


# What went wrong. Of many messages these are few: they have an index of their own.
FAILED = (State.DEAD, State.BOUNCED, State.COMPLAINED)

# From each state, the states a row may move to and who moves it. Printed in docs/states.md.
TRANSITIONS: dict[State, dict[State, str]] = {
    State.PENDING: {
        State.PENDING: "an attempt failed and goes again, a hold, or the lease ran out",
        State.SENT: "a provider accepted it",
        State.DONE: "the task returned",
        State.UNKNOWN: "an at-most-once kind and nobody knows whether the provider has it",
        State.DEAD: "no attempt is left, or none can help",
        State.CANCELLED: "cancelled before it was started",
        State.EXPIRED: "its time was over before it could be sent",
        State.SUPPRESSED: "the address must not be written to",
        State.DELIVERED: "its time came and it is in-app; or receipt of an attempt thought failed",
        State.READ: "receipt of an attempt that was thought to have failed",
        State.BOUNCED: "receipt of an attempt with an unknown outcome",
        State.COMPLAINED: "receipt of an attempt that was thought to have failed",
    },
    State.SENT: {
        State.DELIVERED: "receipt",
        State.READ: "receipt",
        State.BOUNCED: "receipt",
        State.COMPLAINED: "receipt",
        State.PENDING: "the provider reported a failure that goes again",
        State.DEAD: "the provider reported a failure for good",
        State.SUPPRESSED: "the provider reported that the address must not be written to",
        State.EXPIRED: "the provider reported a failure, and it is too late to go again",
    },
    State.DELIVERED: {
        State.READ: "receipt, or its reader in the app",
        State.BOUNCED: "receipt",
        State.COMPLAINED: "receipt",
    },
    State.READ: {State.COMPLAINED: "receipt"},
    State.UNKNOWN: {
        State.SENT: "receipt",
        State.DELIVERED: "receipt",
        State.READ: "receipt",
        State.BOUNCED: "receipt",
        State.COMPLAINED: "receipt",
        State.PENDING: "receipt of a failure that goes again, or retried by a person",
        State.DEAD: "receipt of a failure, or no receipt came in time",
        State.SUPPRESSED: "receipt: the address must not be written to",
        State.EXPIRED: "receipt of a failure, and it is too late to go again",
    },
    State.DEAD: {
        State.PENDING: "retried by a person",
        State.DELIVERED: "receipt: it arrived after all",
        State.READ: "receipt: it arrived after all",
        State.COMPLAINED: "receipt: it arrived after all",
    },
    State.EXPIRED: {State.PENDING: "retried by a person"},
    State.CANCELLED: {State.PENDING: "retried by a person"},
    State.SUPPRESSED: {State.PENDING: "retried by a person"},
    State.BOUNCED: {State.READ: "receipt", State.COMPLAINED: "receipt"},
    State.COMPLAINED: {},
    State.DONE: {},
}


def may_move(old: str, new: str) -> bool:
    """Whether a row may go from state `old` to state `new`."""
    return State(new) in TRANSITIONS[State(old)]


class Work(models.Model):
    """The columns that every durable piece of work has."""

    label: ClassVar[StrOrPromise]  # what people call such a row

    id = models.BigAutoField(primary_key=True)
    queue = models.CharField(_("queue"), max_length=64)
    state = models.CharField(
        _("state"), max_length=16, choices=State.choices, default=State.PENDING
    )
    priority = models.SmallIntegerField(
        _("priority"), choices=Priority.choices, default=Priority.NORMAL
    )
    due_at = models.DateTimeField(
        _("due at"),
        db_default=Now(),
        help_text=_("not before this time; a claimed row's lease end"),
    )
    wanted_at = models.DateTimeField(
        _("wanted at"), db_default=Now(), help_text=_("when it was first meant to go out")
    )
    token = models.UUIDField(_("claim token"), null=True, editable=False)
    started = models.BooleanField(
        _("started"), default=False, editable=False, help_text=_("handed over or about to be")
    )
    lapses = models.SmallIntegerField(
        _("lost leases"), default=0, help_text=_("times its worker died after starting it")
    )
    stalls = models.SmallIntegerField(
        _("claims that ran out"),
        default=0,
        db_default=0,
        editable=False,
        help_text=_("times its worker died, or took too long, before starting it"),
    )
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    retry = models.JSONField(_("retry"), null=True, blank=True, help_text=_("overrides the policy"))
    key = models.CharField(_("idempotency key"), max_length=200, null=True, blank=True)
    about_type = models.CharField(_("about"), max_length=100, blank=True, default="")
    about_id = models.CharField(_("about id"), max_length=64, blank=True, default="")
    trace = models.CharField(
        _("trace"), max_length=55, blank=True, default="", editable=False,
        help_text=_("traceparent of the request that asked for it"),
    )  # fmt: skip
    event_id = models.UUIDField(_("event"), null=True, blank=True)
    reason = models.CharField(
        _("reason"), max_length=300, blank=True, default="", help_text=_("why it is where it is")
    )
    created_at = models.DateTimeField(_("created at"), db_default=Now())
    settled_at = models.DateTimeField(_("settled at"), null=True, blank=True)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)

    class Meta:
        abstract = True

    @property
    def title(self) -> str:
        """What its dead letter is filed under."""
        raise NotImplementedError

    @property
    def policy_changes(self) -> dict[str, Any] | None:
        """The retry fields set for this row alone, or None."""
        changes: dict[str, Any] | None = self.retry
        return changes


def work_indexes(prefix: str) -> list[models.Index]:
    """The indexes of a table of work; `prefix` makes their names unique.

    `claim` serves the claim query and the clock, and holds waiting rows only, so that it stays
    small beside years of sent ones. `failed` and `retrying` are for people who look for trouble;
    what goes well is in neither.
    """
    return [
        models.Index(
            fields=["queue", "priority", "due_at"],
            name=f"{prefix}_claim",
            condition=models.Q(state=State.PENDING),
        ),
        models.Index(
            fields=["about_type", "about_id"],
            name=f"{prefix}_about",
            condition=~models.Q(about_id=""),
        ),
        models.Index(fields=["-id"], name=f"{prefix}_failed", condition=models.Q(state__in=FAILED)),
        models.Index(
            fields=["-id"],
            name=f"{prefix}_retrying",
            condition=models.Q(state=State.PENDING, attempts__gt=0),
        ),
    ]


def work_constraints(prefix: str) -> list[models.BaseConstraint]:
    """What holds for every row of a table of work; `prefix` makes the names unique."""
    return [
        models.CheckConstraint(
            condition=models.Q(priority__in=Priority.values), name=f"{prefix}_priority"
        ),
    ]
