"""WhatsApp's templates as Meta has approved them, and whether the code fits."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import operations
from notifications.admin.base import ReadOnlyAdmin
from notifications.admin.standing import age, chip
from notifications.models import RegisteredTemplate


@admin.register(RegisteredTemplate)
class RegisteredTemplateAdmin(ReadOnlyAdmin):
    """The copy of the registry; *Copy now* fetches it anew."""

    list_display = ("name", "language", "standing", "category", "copied")
    list_filter = ("status", "language")
    search_fields = ("name",)
    ordering = ("name", "language")
    change_list_template = "admin/notifications/list.html"
    fields = ("provider", "name", "language", "status", "category", "words", "synchronised_at")
    readonly_fields = ("words",)

    def get_urls(self) -> list[URLPattern]:
        """Copying."""
        view = self.admin_site.admin_view(self.copy_view)
        name = "notifications_registeredtemplate_copy"
        return [path("copy/", view, name=name), *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list, with the button for those who manage queues."""
        extra = dict(extra_context or {})
        if self.allowed(request, "manage_queue"):
            told = _("They are copied from Meta every night.")
            extra |= self.above("copy", _("Copy now"), told=told)
        return super().changelist_view(request, extra)

    def copy_view(self, request: HttpRequest) -> HttpResponse:
        """Have the lists of all providers copied by a worker."""
        if refusal := self.check_post(request, "manage_queue"):
            return refusal
        operations.synchronise(by=request.user)
        messages.success(request, _("A worker copies them now."))
        return HttpResponseRedirect(self.page("changelist"))

    @admin.display(description=gettext_lazy("state"))
    def standing(self, row: RegisteredTemplate) -> SafeString:
        """What Meta says of it."""
        approved = row.status == RegisteredTemplate.APPROVED
        return chip(row.status.lower(), "good" if approved else "bad")

    @admin.display(description=gettext_lazy("copied"))
    def copied(self, row: RegisteredTemplate) -> SafeString:
        """How long ago."""
        return age(row.synchronised_at)

    @admin.display(description=gettext_lazy("words"))
    def words(self, row: RegisteredTemplate) -> SafeString:
        """Its texts, with their placeholders."""
        parts = [
            (
                str(each.get("type", "")).lower(),
                _words(each),
            )
            for each in row.components
        ]
        return format_html_join("", "<p><small>{}</small><br>{}</p>", parts)


def _words(component: dict[str, Any]) -> str:
    given = component.get("text") or component.get("format")
    if given:
        return str(given)
    return ", ".join(str(each.get("text", "")) for each in component.get("buttons", ()))
