"""What a provider told later about a message it took."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from notifications.models.attempt import OUTCOMES, Attempt
from notifications.models.notification import Notification

FATES = [
    ("sent", _("on its way")),
    ("deferred", _("delayed")),
    ("delivered", _("delivered")),
    ("read", _("read")),
    ("bounced", _("bounced")),
    ("complained", _("marked as spam")),
    ("opted_out", _("opted out")),
    ("failed", _("failed")),
]


class Receipt(models.Model):
    """One report of a provider, kept once however often it comes.

    Its life: taken in -> matched to the attempt it is about -> *applied* to the message, once. One
    that comes before our own settlement, or about a message that nobody here sent, is looked at
    again at `look_at`, after growing waits, and given up after a day.
    """

    id = models.BigAutoField(primary_key=True)
    provider = models.CharField(_("provider"), max_length=64)
    key = models.CharField(_("provider's key"), max_length=200)
    message_id = models.CharField(_("provider's message id"), max_length=200, blank=True)
    about = models.BigIntegerField(
        _("notification it names"), null=True, help_text=_("the id that the provider hands back")
    )
    fate = models.CharField(_("fate"), max_length=16, choices=FATES)
    code = models.CharField(_("code"), max_length=32, blank=True, default="")
    text = models.CharField(_("answer"), max_length=500, blank=True, default="")
    verdict = models.CharField(
        _("what may be done"), max_length=16, choices=OUTCOMES, blank=True, default=""
    )
    retry_after = models.FloatField(_("not before, s"), null=True)
    suppress = models.CharField(
        _("never write again"), max_length=16, choices=FATES, blank=True, default=""
    )
    patient = models.BooleanField(_("came too soon"), default=False, editable=False)
    holds = models.CharField(
        _("template held"), max_length=100, blank=True, default="", editable=False
    )
    at = models.DateTimeField(_("provider's time"), null=True)
    received_at = models.DateTimeField(_("received at"), db_default=Now())
    look_at = models.DateTimeField(_("looked at again at"), null=True)
    applied = models.BooleanField(_("applied"), default=False)
    notification = models.ForeignKey(
        Notification,
        null=True,
        on_delete=models.CASCADE,
        related_name="receipt_set",
        db_index=False,  # a partial index below: most of a storm's inserts leave it alone
    )
    attempt = models.ForeignKey(
        Attempt, null=True, on_delete=models.CASCADE, related_name="receipt_set", db_index=False
    )

    class Meta:
        verbose_name = _("receipt")
        verbose_name_plural = _("receipts")
        indexes = [
            models.Index(
                fields=["look_at"],
                name="ntf_receipt_look",
                condition=models.Q(look_at__isnull=False),
            ),
            models.Index(
                fields=["notification"],
                name="ntf_receipt_message",
                condition=models.Q(notification__isnull=False),
            ),
            models.Index(
                fields=["attempt"],
                name="ntf_receipt_attempt",
                condition=models.Q(attempt__isnull=False),
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["provider", "key"], name="ntf_receipt_once"),
        ]

    def __str__(self) -> str:
        return f"{self.fate} by {self.provider}"
