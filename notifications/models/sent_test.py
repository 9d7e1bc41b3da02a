"""A test message that a person sent: counted, so that nobody's mailbox is flooded with them."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class SentTest(models.Model):
    """One of them, for as long as it counts."""

    id = models.BigAutoField(primary_key=True)
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("by"),
        on_delete=models.CASCADE,
        related_name="+",
        db_index=False,  # the index below serves it, too
    )
    sent_at = models.DateTimeField(_("sent at"), db_default=Now())

    class Meta:
        default_permissions = ()
        verbose_name = _("sent test")
        verbose_name_plural = _("sent tests")
        indexes = [models.Index(fields=["by", "sent_at"], name="ntf_sent_test")]

    def __str__(self) -> str:
        return f"test #{self.pk}"
