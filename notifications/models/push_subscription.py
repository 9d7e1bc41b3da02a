"""A browser that a user lets us push messages to."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class PushSubscription(models.Model):
    """Where one browser is reached (Push API, "PushSubscription"); gone when it says so.

    Who knows the endpoint and the keys can write to the browser: they are kept encrypted.
    """

    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        related_name="+",
    )
    digest = models.CharField(_("hash of the endpoint"), max_length=64, unique=True, editable=False)
    host = models.CharField(_("push service"), max_length=253)
    key = models.CharField(
        _("key"), max_length=100, help_text=_("the site's public key that it was made with")
    )
    sealed = models.BinaryField(_("endpoint and keys, encrypted"), editable=False)
    created_at = models.DateTimeField(_("since"), db_default=Now())

    class Meta:
        verbose_name = _("push subscription")
        verbose_name_plural = _("push subscriptions")

    def __str__(self) -> str:
        return self.address

    @property
    def address(self) -> str:
        """What stands in a notification's `to`."""
        return f"{self.host}#{self.pk}"
