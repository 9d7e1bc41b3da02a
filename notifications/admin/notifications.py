"""The messages: where each one stands, and what became of it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.urls import URLPattern
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.clickjacking import xframe_options_sameorigin

from notifications import conf
from notifications.admin.filters import StandingFilter, among
from notifications.admin.search import find_notifications
from notifications.admin.standing import age
from notifications.admin.work import RowAdmin, name_of, read_kind
from notifications.channels import whatsapp_registry
from notifications.kinds import all_kinds
from notifications.message import Email, Note, WhatsApp
from notifications.models import Notification
from notifications.previews import preview
from notifications.redaction import describe

# Scripts and forms of a message never run, wherever its preview is opened.
PREVIEW_POLICY = (
    "sandbox; default-src 'none'; img-src * data:; style-src 'unsafe-inline'; "
    "frame-ancestors 'self'"
)


@admin.register(Notification)
class NotificationAdmin(RowAdmin):
    """List with filters and search; a page with the answer, the timeline and a preview."""

    list_display = ("what", "standing", "who", "age")
    list_display_links = ("what",)
    list_filter = (
        StandingFilter,
        among("kind", gettext_lazy("kind"), all_kinds, label=read_kind),
        among("channel", gettext_lazy("channel"), conf.channels),
        "priority",
    )
    search_fields = ("pk",)  # shows the search box; get_search_results does the rest
    search_help_text = gettext_lazy(
        "An order's number or whatever else finds what it is about; its own number, the "
        "provider's message id, an idempotency key, or exactly the recipient's address"
    )
    ordering = ("-id",)
    fieldsets = (
        (gettext_lazy("Data"), {"fields": ("shown_data",)}),
        (
            gettext_lazy("Details"),
            {
                "classes": ("collapse",),
                "fields": (
                    "kind", "channel", "queue", "priority", "language", "due_at", "expires_at",
                    "settled_at", "retry", "key", "lapses",
                ),
            },
        ),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notification]:
        """Rows without the contents of mail: attachments may be big."""
        rows: QuerySet[Notification] = super().get_queryset(request)
        return rows.defer("content")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Notification], search_term: str
    ) -> tuple[QuerySet[Notification], bool]:
        """What `search_term` may mean; an address only for those who may see it."""
        term = search_term.strip()
        if not term:
            return queryset, False
        may = self.allowed(request, "view_content")
        found = find_notifications(term, site=self.admin_site, request=request, by_address=may)
        return queryset.filter(pk__in=found), False

    def get_urls(self) -> list[URLPattern]:
        """The preview, beside the actions."""
        return [self.route("preview", self.preview_view), *super().get_urls()]

    # -- one row --------------------------------------------------------------------------------

    def facts(self, row: Any) -> list[tuple[str, Any]]:
        """To whom, about what, how often tried, when asked for."""
        return [
            (_("To"), row.shown.recipient),
            (_("About"), row.shown.about),
            (_("Attempts"), row.attempts),
            (_("Asked for"), age(row.created_at)),
        ]

    def more(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """The preview, for those who may see contents."""
        if not row.shown.revealed:
            return {}
        secret = row.kind in all_kinds() and all_kinds()[row.kind].secret
        shown = {"url": self.page("preview", row.pk), "sample": secret}
        try:
            message = preview(row)
        except Exception as error:  # templates may raise anything
            return {"preview": {**shown, "error": _explain(error)}}
        return {"preview": {**shown, "message": message}}

    @method_decorator(xframe_options_sameorigin)
    def preview_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """The message as HTML, or its text, for the sandboxed frame of the page."""
        if not self.allowed(request, "view_content"):
            raise PermissionDenied
        row = get_object_or_404(Notification, pk=pk)
        try:
            message = preview(row)
        except Exception as error:
            response = _plain(_explain(error))
        else:
            response = _shown(message, as_text="text" in request.GET)
        response["Content-Security-Policy"] = PREVIEW_POLICY
        return response

    # -- the list -------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("message"))
    def what(self, row: Notification) -> SafeString:
        """Its kind, its number and its channel."""
        return format_html(
            '{}<small class="ntf-note">#{} · {}</small>', name_of(row), row.pk, row.channel
        )


def _explain(error: Exception) -> str:
    """Why there is no preview: our own words as they are, others with their class, scrubbed."""
    return str(error) if type(error) is LookupError else describe(error)


def _shown(message: Any, *, as_text: bool) -> HttpResponse:
    if isinstance(message, Email):
        html, text = message.html, message.text
    else:
        html, text = render_to_string("admin/notifications/bubble.html", _bubble(message)), ""
    return HttpResponse(html) if html and not as_text else _plain(text)


def _bubble(message: Any) -> dict[str, Any]:
    """What a telephone's screen shows."""
    if isinstance(message, Note):
        return {"title": message.title, "lines": [message.text], "link": message.link}
    if isinstance(message, WhatsApp):
        known = whatsapp_registry.words(message)
        if known is not None:
            return {"lines": known[0], "buttons": known[1], "whatsapp": True}
    return {"lines": str(message).splitlines(), "whatsapp": isinstance(message, WhatsApp)}


def _plain(text: str) -> HttpResponse:
    return HttpResponse(text, content_type="text/plain; charset=utf-8")
