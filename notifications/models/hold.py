"""What must wait, and why: a queue, a provider, a kind or everything."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class HoldQuerySet(models.QuerySet["Hold"]):
    """Holds, chosen by whether they hold."""

    def in_force(self) -> HoldQuerySet:
        """Those that hold something up now, half-open ones too: not lifted, and not over."""
        still = Q(until=None) | Q(until__gt=Now()) | Hold.half_open()
        return self.filter(still, lifted_at=None)


class Hold(models.Model):
    """Rows under an open hold are not claimed and burn no attempt. Lifted holds are history.

    A person's hold ends at `until`. A provider's own is *half open* from then on: one message at
    a time tries it, until one gets through and lifts it.
    """

    class Scope(models.TextChoices):
        """What is held."""

        ALL = "all", _("everything")
        QUEUE = "queue", _("queue")
        PROVIDER = "provider", _("provider")
        KIND = "kind", _("kind")
        TEMPLATE = "template", _("template")
        BACKLOG = "backlog", _("old backlog of a queue")

    class Cause(models.TextChoices):
        """Who or what asked for it."""

        PERSON = "person", _("paused by a person")
        PROVIDER = "provider", _("the provider refuses everything")
        OUTAGE = "outage", _("the provider is down")
        ASKED = "asked", _("the provider asked to wait")
        AGE = "age", _("older than the set age")

    id = models.BigAutoField(primary_key=True)
    scope = models.CharField(_("scope"), max_length=16, choices=Scope.choices)
    name = models.CharField(_("name"), max_length=100, blank=True, default="")
    cause = models.CharField(_("cause"), max_length=16, choices=Cause.choices, default=Cause.PERSON)
    reason = models.CharField(_("reason"), max_length=300, blank=True, default="")
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("by"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    created_at = models.DateTimeField(_("since"), db_default=Now())
    until = models.DateTimeField(_("until"), null=True, blank=True)
    probes = models.PositiveSmallIntegerField(
        _("probes"), default=0, db_default=0, help_text=_("messages tried in vain since")
    )
    lifted_at = models.DateTimeField(_("lifted at"), null=True, blank=True)

    objects = HoldQuerySet.as_manager()

    class Meta:
        verbose_name = _("hold")
        verbose_name_plural = _("holds")
        constraints = [
            # One open hold for each thing: whoever comes second updates the first.
            models.UniqueConstraint(
                fields=["scope", "name"],
                name="ntf_hold_open",
                condition=models.Q(lifted_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.name}".strip()

    @classmethod
    def half_open(cls) -> Q:
        """The condition of those whose provider may be tried with one message."""
        own = Q(scope=cls.Scope.PROVIDER, until__lte=Now())
        return own & ~Q(cause=cls.Cause.PERSON)
