"""What the screens share: read-only rows, and actions that ask for their own permission."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import NoReverseMatch, reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from notifications.errors import WrongState
from notifications.models import Attempt

COUNTED = 10_000  # rows a list counts at most; beyond it says "10000"


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than COUNTED rows: a full count of a big table takes seconds."""

    @cached_property
    def count(self) -> int:
        """The number of rows, at most COUNTED."""
        rows = self.object_list
        assert isinstance(rows, QuerySet)
        return rows.order_by()[:COUNTED].count()


def mask(address: str) -> str:
    """Enough of an address to recognise, not enough to use: `a…@e….com`."""
    local, at, domain = address.partition("@")
    if not at:
        return f"{address[:3]}…{address[-2:]}" if len(address) > 6 else "…"
    name, dot, top = domain.rpartition(".")
    return f"{local[:1]}…@{name[:1]}…{dot}{top}"


if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Attempt, Any]
else:  # Django's classes take no parameters at run time
    ModelAdmin, TabularInline = admin.ModelAdmin, admin.TabularInline


class ReadOnlyAdmin(ModelAdmin):
    """Rows that only operations change."""

    paginator = BoundedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 200
    actions_on_bottom = True

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Rows are made by notify() and publish()."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits a row; actions have permissions of their own."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows are removed by `notifications_clean`."""
        return False

    def allowed(self, request: HttpRequest, permission: str) -> bool:
        """Whether the person has `notifications.<permission>`."""
        return bool(request.user.has_perm(f"notifications.{permission}"))

    def go_back(self, row: models.Model) -> HttpResponse:
        """To the page of `row`."""
        name = f"admin:{row._meta.app_label}_{row._meta.model_name}_change"
        return HttpResponseRedirect(reverse(name, args=[row.pk]))

    def act(
        self, request: HttpRequest, pk: Any, permission: str, verb: Callable[..., Any], done: str
    ) -> HttpResponse:
        """Do `verb` to one row: POST only, with `permission`, answered with a message."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.allowed(request, permission):
            raise PermissionDenied
        row = get_object_or_404(self.model, pk=pk)
        try:
            verb(row, by=request.user)
        except WrongState as error:
            messages.error(request, str(error))
        else:
            messages.success(request, done)
        return self.go_back(row)


def link_to(row: models.Model | None) -> SafeString | str:
    """A link to a row's page, or a dash."""
    if row is None:
        return "–"
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}_change"
    return format_html('<a href="{}">{}</a>', reverse(name, args=[row.pk]), str(row))


def link_about(about_type: str, about_id: str) -> SafeString | str:
    """A link to what a row is about, where the admin has a page for it."""
    if not about_id:
        return "–"
    app_label, _dot, model_name = about_type.partition(".")
    label = f"{model_name} {about_id}"
    try:
        url = reverse(f"admin:{app_label}_{model_name}_change", args=[about_id])
    except NoReverseMatch:  # the host's admin leaves that model out
        return label
    return format_html('<a href="{}">{}</a>', url, label)


class AttemptInline(TabularInline):
    """The timeline of a row's attempts, newest first."""

    model = Attempt
    extra = 0
    max_num = 0
    can_delete = False
    ordering = ("-id",)
    fields = ("created_at", "number", "provider", "outcome", "code", "text", "milliseconds")
    readonly_fields = fields
    verbose_name_plural = _("attempts, newest first")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Attempts are made by workers."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may see the row may see its attempts."""
        return True
