"""Which environment this database belongs to, so that a copy of it mails nobody."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Stamp(models.Model):
    """One row, written by the first `migrate`. Where NOTIFICATIONS["ENVIRONMENT"] differs from
    it, every queue is held until a person adopts the database (`notifications_adopt`)."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    environment = models.CharField(_("environment"), max_length=64)
    created_at = models.DateTimeField(_("since"), db_default=Now())

    class Meta:
        verbose_name = _("environment stamp")
        verbose_name_plural = _("environment stamps")

    def __str__(self) -> str:
        return self.environment
