"""One message to one recipient on one channel."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Upper
from django.utils.translation import gettext_lazy as _

from notifications.models.work import State, Work, work_constraints, work_indexes


class Notification(Work):
    """A message that was asked for; `kind` is empty for mail sent without a kind."""

    label = _("notification")

    kind = models.CharField(_("kind"), max_length=100, blank=True, default="")
    channel = models.CharField(_("channel"), max_length=32)
    to = models.CharField(_("recipient"), max_length=320, help_text=_("address on the channel"))
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,  # a partial index below: most updates of a row then leave it alone
    )
    language = models.CharField(_("language"), max_length=16, blank=True, default="")
    context = models.JSONField(
        _("context"), default=dict, blank=True, help_text=_("ids and plain facts, no secrets")
    )
    fallback = models.JSONField(
        _("fallback"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("channels and addresses to try if this one does not reach the recipient"),
    )
    instead_of = models.ForeignKey(
        "self",
        verbose_name=_("instead of"),
        null=True,
        blank=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="successors",
        db_index=False,  # the constraint below is its index
    )
    resend_of = models.ForeignKey(
        "self",
        verbose_name=_("sent again for"),
        null=True,
        blank=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="resends",
        db_index=False,  # a partial index below
    )
    content = models.BinaryField(
        _("content"),
        null=True,
        editable=False,
        help_text=_("encrypted content of mail without a kind, erased once sent"),
    )
    erased_at = models.DateTimeField(
        _("erased at"), null=True, editable=False, help_text=_("holds no personal data since")
    )

    class Meta:
        verbose_name = _("notification")
        verbose_name_plural = _("notifications")
        permissions = [
            ("view_content", _("Can see recipients and contents")),
            ("retry_notification", _("Can retry and resend notifications")),
            ("cancel_notification", _("Can cancel notifications")),
            ("send_test", _("Can send test messages")),
            ("manage_queue", _("Can pause, resume, clean and empty queues")),
        ]
        indexes = [
            *work_indexes("ntf_message"),
            # People ask for the exact address, and want the newest.
            models.Index(Upper("to"), models.F("id").desc(), name="ntf_message_to"),
            models.Index(
                fields=["user"], name="ntf_message_user", condition=models.Q(user__isnull=False)
            ),
            # The inbox of one user, newest first; and what is unread there, which is little.
            models.Index(
                fields=["user", "-wanted_at", "-id"],
                name="ntf_message_inbox",
                condition=models.Q(channel="in_app", state__in=["delivered", "read"]),
            ),
            models.Index(
                fields=["user"],
                name="ntf_message_unread",
                condition=models.Q(channel="in_app", state="delivered"),
            ),
            models.Index(
                fields=["resend_of"],
                name="ntf_message_resend",
                condition=models.Q(resend_of__isnull=False),
            ),
            models.Index(
                fields=["settled_at"],
                name="ntf_message_unknown",
                condition=models.Q(state=State.UNKNOWN),
            ),
        ]
        constraints = [
            *work_constraints("ntf_message"),
            models.UniqueConstraint(
                fields=["channel", "key", "to"],
                name="ntf_message_key",
                condition=models.Q(key__isnull=False),
            ),
            models.UniqueConstraint(
                fields=["instead_of"],
                name="ntf_message_instead_of",
                condition=models.Q(instead_of__isnull=False),
            ),
        ]

    @property
    def title(self) -> str:
        """Its kind, or the channel of mail without one."""
        return self.kind or self.channel

    def __str__(self) -> str:
        return f"{self.title} #{self.pk}"
