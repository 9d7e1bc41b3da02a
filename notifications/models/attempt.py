"""One provider call, or one run of a task."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from notifications.models.notification import Notification
from notifications.models.task import Task

OUTCOMES = [
    ("accepted", _("accepted")),
    ("later", _("failed for now")),
    ("permanent", _("refused for good")),
    ("hold", _("provider held")),
    ("unknown", _("unknown")),
    ("done", _("done")),
]


class Attempt(models.Model):
    """What one attempt came to. Written even by a worker that has lost the row."""

    id = models.BigAutoField(primary_key=True)
    notification = models.ForeignKey(
        Notification, null=True, on_delete=models.CASCADE, related_name="attempt_set"
    )
    task = models.ForeignKey(
        Task, null=True, on_delete=models.CASCADE, related_name="attempt_set", db_index=False
    )
    number = models.PositiveSmallIntegerField(_("number"), help_text=_("1 is the first"))
    provider = models.CharField(_("provider"), max_length=64, blank=True, default="")
    outcome = models.CharField(_("outcome"), max_length=16, choices=OUTCOMES)
    code = models.CharField(_("code"), max_length=32, blank=True, default="")
    text = models.CharField(_("answer"), max_length=500, blank=True, default="")
    message_id = models.CharField(
        _("provider's message id"), max_length=200, blank=True, default=""
    )
    mark = models.CharField(
        _("hash of the message"),
        max_length=32,
        blank=True,
        default="",
        editable=False,
        help_text=_("finds it at the provider, where its answer was lost"),
    )
    theirs = models.BooleanField(
        _("provider's trouble"), default=False, db_default=False, editable=False
    )
    milliseconds = models.PositiveIntegerField(_("took, ms"), default=0)
    created_at = models.DateTimeField(_("created at"), db_default=Now())

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        indexes = [
            # For the breaker: the last ones of a provider, however busy the others are.
            models.Index(
                fields=["provider", "id"],
                name="ntf_attempt_provider",
                condition=~models.Q(provider=""),
            ),
            models.Index(
                fields=["task"], name="ntf_attempt_task", condition=models.Q(task__isnull=False)
            ),
            models.Index(
                fields=["message_id"],
                name="ntf_attempt_message_id",
                condition=~models.Q(message_id=""),
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(notification__isnull=False, task__isnull=True)
                | models.Q(notification__isnull=True, task__isnull=False),
                name="ntf_attempt_of_one",
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.outcome}"
