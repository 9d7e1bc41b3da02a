"""An address that must not be written to, without the address."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Suppression(models.Model):
    """Why an address of a channel is not written to any more; one row for each reason.

    It holds a keyed hash of the address and a masked form for people to recognise, so that it
    outlives the erasure of the person's data without being personal data that could be read.
    """

    class Reason(models.TextChoices):
        """Why; only an opt-out may be overridden, by critical messages."""

        BOUNCE = "bounce", _("hard bounce")
        COMPLAINT = "complaint", _("marked as spam")
        OPT_OUT = "opt_out", _("opted out")
        PERSON = "person", _("by hand")

    id = models.BigAutoField(primary_key=True)
    channel = models.CharField(_("channel"), max_length=32)
    digest = models.CharField(_("hash of the address"), max_length=64, editable=False)
    masked = models.CharField(_("address, masked"), max_length=64)
    reason = models.CharField(_("reason"), max_length=16, choices=Reason.choices)
    source = models.CharField(_("source"), max_length=100, blank=True, default="")
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("by"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    created_at = models.DateTimeField(_("since"), db_default=Now())

    class Meta:
        verbose_name = _("suppression")
        verbose_name_plural = _("suppressions")
        permissions = [("manage_suppression", _("Can suppress addresses and lift it"))]
        constraints = [
            models.UniqueConstraint(
                fields=["digest", "channel", "reason"], name="ntf_suppression_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.channel} {self.masked}"
