"""When a task runs by the calendar: a row with the last slot done."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Schedule(models.Model):
    """The memory of one `@task(schedule=…)`; the clock turns each slot into one task, once."""

    name = models.CharField(_("function"), max_length=200, primary_key=True)
    last_slot = models.DateTimeField(_("last slot"), db_default=Now())

    class Meta:
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")

    def __str__(self) -> str:
        return self.name
