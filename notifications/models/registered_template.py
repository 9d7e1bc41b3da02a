"""A WhatsApp template as Meta has it: the copy that code is compared with."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class RegisteredTemplate(models.Model):
    """One translation of one template, as it was when it was last synchronised."""

    APPROVED = "APPROVED"  # the one status in which it can be sent

    id = models.BigAutoField(primary_key=True)
    provider = models.CharField(_("provider"), max_length=100)
    name = models.CharField(_("name"), max_length=512)
    language = models.CharField(_("language"), max_length=16)
    status = models.CharField(_("status"), max_length=32)
    category = models.CharField(_("category"), max_length=32, blank=True, default="")
    named = models.BooleanField(_("named placeholders"), default=False)
    components = models.JSONField(_("components"), default=list)
    synchronised_at = models.DateTimeField(_("synchronised at"))

    class Meta:
        verbose_name = _("WhatsApp template")
        verbose_name_plural = _("WhatsApp templates")
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "name", "language"], name="ntf_template_translation"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.language})"
