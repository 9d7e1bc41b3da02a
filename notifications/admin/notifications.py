"""The messages: where each one stands, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.clickjacking import xframe_options_sameorigin

from notifications import conf, operations
from notifications.admin import pictures
from notifications.admin.filters import StandingFilter, among
from notifications.admin.search import find_notifications
from notifications.admin.standing import age, judge
from notifications.admin.work import Button, RowAdmin, name_of, read_kind
from notifications.errors import WrongState
from notifications.kinds import all_kinds
from notifications.message import Email
from notifications.models import Notification
from notifications.previews import preview
from notifications.resending import RESENT

RELATED = 20  # messages that a page links to


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
    search_fields = ("pk",)  # shows the search box; find_rows does the rest
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

    def find_rows(self, request: HttpRequest, term: str) -> Q:
        """What `term` may mean; an address only for those who may see it."""
        may = self.allowed(request, "view_content")
        site = self.admin_site
        return Q(pk__in=find_notifications(term, site=site, request=request, by_address=may))

    def get_urls(self) -> list[URLPattern]:
        """The preview and the question before a second sending, beside the actions."""
        views = {"preview": self.preview_view, "resend": self.resend_view}
        return [self.route(verb, view) for verb, view in views.items()] + super().get_urls()

    # -- one row --------------------------------------------------------------------------------

    def facts(self, row: Any) -> list[tuple[str, Any]]:
        """To whom, about what, how often tried, when asked for; and the messages beside it."""
        return [
            (_("To"), row.shown.linked),
            (_("Channel"), row.channel),
            (_("About"), row.shown.about),
            (_("Attempts"), row.attempts),
            (_("Asked for"), age(row.created_at)),
            *self._relatives(row),
        ]

    def buttons(self, request: HttpRequest, row: Any) -> list[Button]:
        """Retry what ended unsent, cancel what waits, send again what went out."""
        buttons = super().buttons(request, row)
        left = row.erased_at is None and (row.kind or row.content is not None)  # to send again
        if row.state in RESENT and left and self.has_retry_permission(request):
            buttons.append(Button(_("Send again…"), self.page("resend", row.pk), post=False))
        return buttons

    def more(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """The preview, for those who may see contents."""
        if not row.shown.revealed:
            return {"hidden": True}
        secret = row.kind in all_kinds() and all_kinds()[row.kind].secret
        shown = {"url": self.page("preview", row.pk), "sample": secret}
        try:
            message = preview(row)
        except Exception as error:  # templates may raise anything
            return {"preview": {**shown, "error": pictures.explain(error)}}
        return {"preview": {**shown, "message": message, "tall": isinstance(message, Email)}}

    @method_decorator(xframe_options_sameorigin)
    def preview_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """The message as HTML, or its text, for the sandboxed frame of the page."""
        if not (self.has_view_permission(request) and self.allowed(request, "view_content")):
            raise PermissionDenied
        row = self.find(request, pk)
        try:
            message = preview(row)
        except Exception as error:
            return pictures.refuse(error)
        return pictures.show(request, message)

    def resend_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Ask, then send the message once more as a new row."""
        if not self.allowed(request, "retry_notification"):
            raise PermissionDenied
        row = self.find(request, pk)
        if request.method != "POST":
            return self._ask_to_resend(request, row)
        key = request.POST.get("key", "").replace("\0", "")[:64]
        try:
            again = operations.resend(row, key=key, by=request.user)
        except WrongState as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(self.page("change", row.pk))
        messages.success(request, _("It is sent again, as this message."))
        return HttpResponseRedirect(self.page("change", again.pk))

    def _ask_to_resend(self, request: HttpRequest, row: Any) -> HttpResponse:
        warning = _(
            "%(to)s gets this message a second time, composed anew from what is true now."
        ) % {"to": row.shown.recipient}
        facts = [f"{name_of(row)} #{row.pk}", row.shown.about, judge(row).sentence]
        values = {
            "title": _("Send again"),
            "question": _("Send it again?"),
            "warning": warning,
            "sample": facts,
            "button": _("Yes, send it twice"),
            "hidden": [("key", uuid4().hex)],  # a second click sends nothing
        }
        return self.ask(request, values, back=self.page("change", row.pk))

    def _relatives(self, row: Any) -> Iterator[tuple[str, Any]]:
        """The messages it stands in for or was sent again as, with links."""
        near: list[tuple[str, Any]] = [
            (_("Instead of"), [row.instead_of_id]),
            (_("Sent again for"), [row.resend_of_id]),
            (_("Then tried as"), row.successors.values_list("pk", flat=True)[:1]),
            (_("Sent again as"), row.resends.order_by("pk").values_list("pk", flat=True)[:RELATED]),
        ]
        for name, keys in near:
            links = [(self.page("change", key), key) for key in keys if key is not None]
            if links:
                yield name, format_html_join(", ", '<a href="{}">#{}</a>', links)

    # -- the list -------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("message"))
    def what(self, row: Notification) -> SafeString:
        """Its kind, its number and its channel."""
        return format_html(
            '{}<small class="ntf-note">#{} · {}</small>', name_of(row), row.pk, row.channel
        )
