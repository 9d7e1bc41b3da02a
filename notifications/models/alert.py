"""What the administrators must know, and whether they were told."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Alert(models.Model):
    """One reason to worry. However often it is raised, they are told once in a while only.

    It is *due* until the clock has told it on every road, or has given up the roads that fail.
    """

    id = models.BigAutoField(primary_key=True)
    key = models.CharField(_("key"), max_length=200, unique=True, help_text=_("one for a reason"))
    subject = models.CharField(_("subject"), max_length=200)
    text = models.CharField(_("text"), max_length=1000)
    channel = models.CharField(
        _("channel"), max_length=32, blank=True, default="", help_text=_("the one that broke")
    )
    times = models.PositiveIntegerField(_("times raised"), default=1)
    raised_at = models.DateTimeField(_("last raised"), db_default=Now())
    due_at = models.DateTimeField(_("due at"), null=True, db_default=Now())
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    roads = models.CharField(_("told by"), max_length=200, blank=True, default="")
    told_at = models.DateTimeField(_("told at"), null=True, blank=True)

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        indexes = [
            models.Index(
                fields=["due_at"], name="ntf_alert_due", condition=models.Q(due_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.subject
