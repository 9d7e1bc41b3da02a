"""The messages: where each one stands, and what became of it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.clickjacking import xframe_options_sameorigin

from notifications import operations
from notifications.admin.base import AttemptInline, ReadOnlyAdmin, link_about, link_to, mask
from notifications.message import Email
from notifications.models import Notification
from notifications.previews import preview
from notifications.redaction import describe


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    """List with filters and search; detail with timeline and preview."""

    list_display = (
        "id", "state", "what", "channel", "recipient", "about", "attempts", "reason", "created_at",
    )  # fmt: skip
    list_display_links = ("id", "state")
    list_filter = ("state", "channel", "priority", "kind")
    search_fields = ("about_id",)
    search_help_text = gettext_lazy(
        "Order or other id, provider's message id, idempotency key, or an exact address"
    )
    ordering = ("-id",)
    date_hierarchy = None
    inlines = (AttemptInline,)
    change_form_template = "admin/notifications/notification.html"
    fieldsets = (
        (
            None,
            {"fields": ("state", "reason", "what", "channel", "recipient", "about", "language")},
        ),
        (
            gettext_lazy("Sending"),
            {
                "fields": (
                    "queue", "priority", "attempts", "due_at", "expires_at", "created_at",
                    "settled_at", "retry", "key", "lapses", "letter",
                )
            },
        ),
        (gettext_lazy("Context"), {"fields": ("shown_context",), "classes": ("collapse",)}),
    )  # fmt: skip

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """All of them."""
        return [name for _title, options in self.fieldsets for name in options["fields"]]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notification]:
        """Remember who looks, since what is shown depends on it."""
        self._reveal = self.allowed(request, "view_content")
        rows: QuerySet[Notification] = super().get_queryset(request)
        return rows.defer("content")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Notification], search_term: str
    ) -> tuple[QuerySet[Notification], bool]:
        """Exact matches only, each served by an index; an address only for those who may see it."""
        term = search_term.strip()
        if not term:
            return queryset, False
        found = Q(about_id=term) | Q(key=term) | Q(attempt_set__message_id=term)
        if term.isdecimal():
            found |= Q(pk=int(term))
        if "@" in term and self.allowed(request, "view_content"):
            found |= Q(to__iexact=term)
        return queryset.filter(found), True

    def get_urls(self) -> list[URLPattern]:
        """The actions of one row, and its preview."""
        site = self.admin_site
        own = [
            path(f"<path:pk>/{verb}/", site.admin_view(view), name=f"notifications_{verb}")
            for verb, view in (
                ("retry", self.retry_view),
                ("cancel", self.cancel_view),
                ("preview", self.preview_view),
            )
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
            "may_preview": self.allowed(request, "view_content"),
            **(extra_context or {}),
        }
        return super().change_view(request, object_id, form_url, extra)

    def retry_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Send the same row again."""
        done = _("It will be sent again now.")
        return self.act(request, pk, "retry_notification", operations.retry, done)

    def cancel_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Withdraw a waiting row."""
        done = _("It will not be sent.")
        return self.act(request, pk, "cancel_notification", operations.cancel, done)

    @method_decorator(xframe_options_sameorigin)
    def preview_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """The message as HTML, or its text, for the sandboxed frame of the detail page."""
        if not self.allowed(request, "view_content"):
            raise PermissionDenied
        row = get_object_or_404(Notification, pk=pk)
        try:
            message = preview(row)
        except Exception as error:  # templates may raise anything
            response = HttpResponse(describe(error), content_type="text/plain; charset=utf-8")
        else:
            response = _shown(message, as_text="text" in request.GET)
        # Scripts and forms of a message never run, wherever the page is opened.
        response["Content-Security-Policy"] = "sandbox; default-src 'none'; img-src * data:; " \
            "style-src 'unsafe-inline'; frame-ancestors 'self'"  # fmt: skip
        return response

    @admin.display(description=gettext_lazy("kind"), ordering="kind")
    def what(self, row: Notification) -> str:
        """The kind, or that there is none."""
        return row.kind or _("(mail without a kind)")

    @admin.display(description=gettext_lazy("recipient"))
    def recipient(self, row: Notification) -> str:
        """The address, masked unless the person may see it."""
        return row.to if self._reveal else mask(row.to)

    @admin.display(description=gettext_lazy("about"))
    def about(self, row: Notification) -> SafeString | str:
        """A link to what it is about."""
        return link_about(row.about_type, row.about_id)

    @admin.display(description=gettext_lazy("dead letter"))
    def letter(self, row: Notification) -> SafeString | str:
        """A link to its entry in the dead-letter queue."""
        return link_to(getattr(row, "dead_letter", None))

    @admin.display(description=gettext_lazy("context"))
    def shown_context(self, row: Notification) -> SafeString | str:
        """The stored facts, for those who may see contents."""
        if not self._reveal:
            return _("hidden")
        return format_html("<pre>{}</pre>", _pairs(row.context))

    @admin.action(description=gettext_lazy("Send again"), permissions=["retry"])
    def retry_chosen(self, request: HttpRequest, queryset: QuerySet[Notification]) -> None:
        """Retry the chosen rows that ended unsent."""
        done = operations.retry_rows(queryset, by=request.user)
        messages.success(request, _("%(count)s will be sent again.") % {"count": done})

    @admin.action(description=gettext_lazy("Cancel"), permissions=["cancel"])
    def cancel_chosen(self, request: HttpRequest, queryset: QuerySet[Notification]) -> None:
        """Cancel the chosen rows that still wait."""
        done = operations.cancel_rows(queryset, by=request.user)
        messages.success(request, _("%(count)s cancelled.") % {"count": done})

    actions = ("retry_chosen", "cancel_chosen")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """For `retry_chosen`."""
        return self.allowed(request, "retry_notification")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """For `cancel_chosen`."""
        return self.allowed(request, "cancel_notification")


def _shown(message: Any, *, as_text: bool) -> HttpResponse:
    if isinstance(message, Email) and message.html and not as_text:
        return HttpResponse(message.html)
    body = message.text if isinstance(message, Email) else str(message)
    return HttpResponse(body, content_type="text/plain; charset=utf-8")


def _pairs(context: dict[str, Any]) -> str:
    return "\n".join(f"{name} = {value!r}" for name, value in context.items())
