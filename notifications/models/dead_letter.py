"""What gave up: the list that support staff work through (the DLQ)."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from notifications.models.notification import Notification
from notifications.models.task import Task


class DeadLetter(models.Model):
    """One entry of the dead-letter queue; the original data are on the linked row.

    Retrying removes the entry and makes the row due again; deleting removes the entry alone.
    """

    id = models.BigAutoField(primary_key=True)
    notification = models.OneToOneField(
        Notification, null=True, on_delete=models.CASCADE, related_name="dead_letter"
    )
    task = models.OneToOneField(
        Task, null=True, on_delete=models.CASCADE, related_name="dead_letter"
    )
    queue = models.CharField(_("queue"), max_length=64)
    name = models.CharField(_("kind or function"), max_length=200)
    topic = models.CharField(_("topic"), max_length=100, blank=True, default="")
    error = models.CharField(_("error class"), max_length=200, blank=True, default="")
    code = models.CharField(_("code"), max_length=32, blank=True, default="")
    reason = models.CharField(_("reason"), max_length=300)
    traceback = models.TextField(_("traceback"), blank=True, default="")
    attempts = models.PositiveSmallIntegerField(_("attempts"))
    fingerprint = models.CharField(
        _("fingerprint"), max_length=32, help_text=_("same for error class, code and kind")
    )
    created_at = models.DateTimeField(_("died at"), db_default=Now())

    class Meta:
        verbose_name = _("dead letter (DLQ)")
        verbose_name_plural = _("dead letters (DLQ)")
        permissions = [("retry_deadletter", _("Can retry dead letters"))]
        indexes = [
            models.Index(fields=["queue", "-id"], name="ntf_dead_queue"),
            models.Index(fields=["fingerprint", "-id"], name="ntf_dead_fingerprint"),
            models.Index(
                fields=["topic", "-id"], name="ntf_dead_topic", condition=~models.Q(topic="")
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(notification__isnull=False, task__isnull=True)
                | models.Q(notification__isnull=True, task__isnull=False),
                name="ntf_dead_of_one",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"

    @property
    def work(self) -> Notification | Task:
        """The row that gave up."""
        row = self.notification or self.task
        assert row is not None, "held by the constraint ntf_dead_of_one"
        return row
