"""Addresses that are not written to: why, since when, and the way back."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import conf, operations, suppressions
from notifications.admin.base import ReadOnlyAdmin
from notifications.admin.standing import age, noted
from notifications.errors import InvalidAddress
from notifications.models import Suppression


class SuppressForm(forms.Form):
    """Whom not to write to any more, and why."""

    channel = forms.ChoiceField(
        label=gettext_lazy("Channel"),
        choices=lambda: [(name, name) for name, each in conf.channels().items() if each.providers],
    )
    address = forms.CharField(label=gettext_lazy("Address"), max_length=320)
    note = forms.CharField(label=gettext_lazy("Note"), required=False, max_length=80)

    def clean(self) -> dict[str, Any]:
        """The address as its channel writes it."""
        values: dict[str, Any] = self.cleaned_data
        if {"channel", "address"} <= values.keys():
            channel = conf.channel(values["channel"]).channel
            try:
                values["address"] = channel.clean(values["address"])
            except InvalidAddress as error:
                self.add_error("address", str(error))
        return values


@admin.register(Suppression)
class SuppressionAdmin(ReadOnlyAdmin):
    """Newest first. An address is found by typing it whole: only its hash is kept."""

    list_display = ("masked", "channel", "why", "since")
    list_filter = ("reason", "channel")
    list_select_related = ("by",)
    ordering = ("-id",)
    search_fields = ("pk",)  # shows the search box; find_rows does the rest
    search_help_text = gettext_lazy("Exactly the address, as it was written to")
    actions = ("lift_chosen",)
    change_list_template = "admin/notifications/list.html"
    fields = ("channel", "masked", "reason", "source", "by", "created_at")

    def get_urls(self) -> list[URLPattern]:
        """Adding one."""
        view = self.admin_site.admin_view(self.suppress_view)
        return [path("suppress/", view, name="notifications_suppression_suppress"),
                *super().get_urls()]  # fmt: skip

    def find_rows(self, request: HttpRequest, term: str) -> Q:
        """The rows of one address, on whatever channel."""
        found = [row.pk for name in conf.channels() for row in suppressions.find(name, term)]
        return Q(pk__in=found)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list, below the form for those who may suppress."""
        extra = dict(extra_context or {})
        if self.has_manage_permission(request):
            extra |= self.above("suppress", _("Write to it no more"), SuppressForm())
        return super().changelist_view(request, extra)

    def suppress_view(self, request: HttpRequest) -> HttpResponse:
        """Suppress an address by hand."""
        if refusal := self.check_post(request, "manage_suppression"):
            return refusal
        form = SuppressForm(request.POST)
        if form.is_valid():
            values = form.cleaned_data
            row = operations.suppress(
                values["channel"], values["address"], note=values["note"], by=request.user
            )
            messages.success(request, _("%(who)s gets nothing more.") % {"who": row.masked})
        self.tell_errors(request, form)
        return HttpResponseRedirect(self.page("changelist"))

    @admin.action(description=gettext_lazy("Write to them again"), permissions=["manage"])
    def lift_chosen(self, request: HttpRequest, queryset: QuerySet[Suppression]) -> None:
        """Take addresses off the list."""
        for row in queryset:
            operations.unsuppress(row, by=request.user)
        messages.success(request, _("The chosen addresses may be written to again."))

    def has_manage_permission(self, request: HttpRequest) -> bool:
        """For the form and `lift_chosen`."""
        return self.allowed(request, "manage_suppression")

    @admin.display(description=gettext_lazy("reason"))
    def why(self, row: Suppression) -> SafeString:
        """The reason, who told it, and the person."""
        note = " · ".join(filter(None, (row.source, str(row.by or ""))))
        return noted(row.get_reason_display(), note)

    @admin.display(description=gettext_lazy("since"))
    def since(self, row: Suppression) -> str:
        """How long ago it began."""
        return age(row.created_at)
