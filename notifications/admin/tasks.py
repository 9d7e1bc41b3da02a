"""The tasks: handlers of events and other durable calls."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import operations
from notifications.admin.base import AttemptInline, ReadOnlyAdmin, link_to
from notifications.models import Task


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin):
    """List with filters; detail with attempts, progress and result."""

    list_display = (
        "id", "state", "name", "topic", "queue", "bar", "attempts", "reason", "created_at",
    )  # fmt: skip
    list_display_links = ("id", "state")
    list_filter = ("state", "queue", "topic")
    search_fields = ("=id", "=event_id", "=name", "=key")
    ordering = ("-id",)
    inlines = (AttemptInline,)
    change_form_template = "admin/notifications/task.html"
    fields = (
        "state", "reason", "name", "topic", "event_id", "payload", "result", "bar", "queue",
        "priority", "attempts", "due_at", "created_at", "settled_at", "key", "lapses", "letter",
    )  # fmt: skip
    readonly_fields = fields

    def get_urls(self) -> list[URLPattern]:
        """The actions of one row."""
        site = self.admin_site
        own = [
            path(f"<path:pk>/{verb}/", site.admin_view(view), name=f"notifications_task_{verb}")
            for verb, view in (("retry", self.retry_view), ("cancel", self.cancel_view))
        ]
        return own + super().get_urls()

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The detail page, with the buttons the person may press."""
        extra = {
            "may_retry": self.allowed(request, "retry_notification"),
            "may_cancel": self.allowed(request, "cancel_notification"),
            **(extra_context or {}),
        }
        return super().change_view(request, object_id, form_url, extra)

    def retry_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Run the same call again."""
        done = _("It will run again now.")
        return self.act(request, pk, "retry_notification", operations.retry, done)

    def cancel_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Withdraw a waiting call."""
        done = _("It will not run.")
        return self.act(request, pk, "cancel_notification", operations.cancel, done)

    @admin.display(description=gettext_lazy("progress"))
    def bar(self, row: Task) -> SafeString:
        """A progress bar."""
        return format_html('<progress max="100" value="{0}">{0}%</progress>', row.progress)

    @admin.display(description=gettext_lazy("dead letter"))
    def letter(self, row: Task) -> SafeString | str:
        """A link to its entry in the dead-letter queue."""
        return link_to(getattr(row, "dead_letter", None))
