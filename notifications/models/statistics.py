"""Small rows that keep the counts of big tables: what happened, and who is at work."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Counted(models.Model):
    """How often one thing happened, and what it took; kept when the rows are gone."""

    id = models.BigAutoField(primary_key=True)
    queue = models.CharField(_("queue"), max_length=64)
    what = models.CharField(_("what"), max_length=16, help_text=_("an outcome, a fate, or dead"))
    count = models.PositiveBigIntegerField(_("count"), default=0)
    milliseconds = models.PositiveBigIntegerField(_("took in all, ms"), default=0)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.what} of {self.queue}: {self.count}"


class Tally(Counted):
    """What happened in one quarter of an hour."""

    since = models.DateTimeField(_("since"), help_text=_("start of the quarter of an hour"))
    topic = models.CharField(_("topic"), max_length=100, blank=True, default="")
    name = models.CharField(_("kind or function"), max_length=200, blank=True, default="")
    provider = models.CharField(_("provider"), max_length=64, blank=True, default="")

    class Meta:
        verbose_name = _("tally")
        verbose_name_plural = _("tallies")
        constraints = [
            models.UniqueConstraint(
                fields=["since", "queue", "topic", "name", "provider", "what"],
                name="ntf_tally_once",
            ),
        ]


class QueueTally(Counted):
    """What happened in one quarter of an hour in a whole queue, for charts over many days: few
    rows, however many kinds there are. (Not of a day: whose day is it?)"""

    since = models.DateTimeField(_("since"), help_text=_("start of the quarter of an hour"))

    class Meta:
        verbose_name = _("tally of a queue")
        verbose_name_plural = _("tallies of queues")
        constraints = [
            models.UniqueConstraint(fields=["queue", "what", "since"], name="ntf_queuetally_once"),
        ]


class Total(Counted):
    """What ever happened. Tallies grow old and go; this only grows."""

    name = models.CharField(_("kind or function"), max_length=200, blank=True, default="")
    provider = models.CharField(_("provider"), max_length=64, blank=True, default="")

    class Meta:
        verbose_name = _("total")
        verbose_name_plural = _("totals")
        constraints = [
            models.UniqueConstraint(
                fields=["queue", "name", "provider", "what"], name="ntf_total_once"
            ),
        ]


class Watermark(models.Model):
    """How far the rows of one table are tallied."""

    table = models.CharField(_("table"), max_length=32, primary_key=True)
    last_id = models.BigIntegerField(_("last id"), default=0)

    class Meta:
        verbose_name = _("watermark")
        verbose_name_plural = _("watermarks")

    def __str__(self) -> str:
        return f"{self.table}: {self.last_id}"


class Heartbeat(models.Model):
    """A clock that was seen; every worker of ours has one beside it."""

    name = models.CharField(_("name"), max_length=200, primary_key=True)
    queues = models.JSONField(_("queues"), default=list)
    started_at = models.DateTimeField(_("started at"), db_default=Now())
    seen_at = models.DateTimeField(_("seen at"), db_default=Now())

    class Meta:
        verbose_name = _("heartbeat")
        verbose_name_plural = _("heartbeats")

    def __str__(self) -> str:
        return self.name
