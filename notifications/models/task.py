"""A durable call of a registered function."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from notifications.models.work import State, Work, work_constraints, work_indexes


class Task(Work):
    """One call of the function registered as `name`, with plain arguments in `payload`."""

    label = _("task")

    name = models.CharField(_("function"), max_length=200)
    topic = models.CharField(_("topic"), max_length=100, blank=True, default="")
    payload = models.JSONField(_("payload"), default=dict, blank=True)
    result = models.JSONField(_("result"), null=True, blank=True)
    progress = models.PositiveSmallIntegerField(_("progress"), default=0, help_text=_("per cent"))

    class Meta:
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        indexes = [
            *work_indexes("ntf_task"),
            # How the handlers of a topic stand, behind whatever backlog of other tasks.
            models.Index(
                fields=["topic", "due_at"],
                name="ntf_task_topic",
                condition=models.Q(state=State.PENDING) & ~models.Q(topic=""),
            ),
        ]
        constraints = [
            *work_constraints("ntf_task"),
            models.UniqueConstraint(
                fields=["name", "key"], name="ntf_task_key", condition=models.Q(key__isnull=False)
            ),
        ]

    @property
    def title(self) -> str:
        """The function's name."""
        return self.name

    def __str__(self) -> str:
        return f"{self.name} #{self.pk}"
