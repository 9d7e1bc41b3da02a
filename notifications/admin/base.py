"""What all screens share: rows that only operations change, and actions with their own rights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.core.paginator import Paginator
from django.db import models
from django.db.models import Q, QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.functional import cached_property
from django.utils.text import capfirst

from notifications import bounds
from notifications.errors import WrongState

COUNTED = 10_000  # rows a list counts and pages through at most; beyond it says "more than"


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than COUNTED rows: a full count of a big table takes seconds."""

    @cached_property
    def count(self) -> int:
        """The number of rows, at most COUNTED."""
        return min(COUNTED, self._counted)

    @property
    def is_more(self) -> bool:
        """Whether there are more rows than `count`."""
        return self._counted > COUNTED

    @cached_property
    def _counted(self) -> int:
        rows = self.object_list
        assert isinstance(rows, QuerySet)
        return rows.order_by()[: COUNTED + 1].count()


class BoundedChangeList(ChangeList):
    """Filters without an index look through the newest rows only, and the list says so."""

    looked_through: int | None = None  # rows; None: all

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> QuerySet[Any]:
        """The rows of the list."""
        rows = super().get_queryset(request, exclude_parameters)
        assert isinstance(self.model_admin, ReadOnlyAdmin)
        if self.query or not self.has_active_filters or self.model_admin.has_index(self.params):
            return rows
        floor = bounds.floor_of(self.model)
        if floor <= 0:
            return rows
        self.looked_through = bounds.LOOKED_THROUGH
        return rows.filter(pk__gt=floor)


if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

    ModelAdmin = admin.ModelAdmin[Any]
else:  # Django's class takes no parameters at run time
    ModelAdmin = admin.ModelAdmin


# What Django's own filters append to the name of a column.
ENDINGS = frozenset(("exact", "in", "isnull", "isempty", "gte", "lt"))


class NarrowAdmin(ModelAdmin):
    """Tells nobody more than they may see, where Django's own admin would.

    Django lets an address ask anything of a list's own columns: `?to__startswith=b` would tell
    somebody, letter by letter, what they see masked. Here an address asks for what the filters
    offer, and for nothing else.
    """

    looked_up: ClassVar[tuple[str, ...]] = ()  # columns beside the filters', exactly
    delete_confirmation_template = "admin/notifications/delete.html"
    deleting: ClassVar[Mapping[str, StrOrPromise]] = {}  # its title, warning and button

    class Media:
        css = {"all": ("notifications/admin.css",)}

    def page(self, name: str, *args: Any) -> str:
        """The address of a page of this model: "changelist", "change", or one of its own."""
        return reverse(
            f"admin:notifications_{self.opts.model_name}_{name}",
            args=args,
            current_app=self.admin_site.name,
        )

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list, under its own name."""
        title = {"title": capfirst(self.opts.verbose_name_plural), **(extra_context or {})}
        return super().changelist_view(request, title)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The question before a row is deleted, and its answer."""
        back = self.page("change", object_id)
        told = {"list": self.page("changelist"), "back": back, **self.deleting}
        return super().delete_view(request, object_id, {**told, **(extra_context or {})})

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Whether an address may ask for this."""
        if "\0" in value:  # PostgreSQL takes none
            return False
        offered = any(_offers(each, lookup) for each in self.get_list_filter(request))
        return lookup in self.looked_up or (
            offered and super().lookup_allowed(lookup, value, request)
        )

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """What was done to a row. Django looks for it first, and tells whoever asks if it is."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        return super().history_view(request, object_id, extra_context)


def _offers(filtered: Any, lookup: str) -> bool:
    """Whether an entry of `list_filter` makes links that ask for `lookup`."""
    if isinstance(filtered, type):
        return bool(lookup == getattr(filtered, "parameter_name", None))
    column = filtered if isinstance(filtered, str) else filtered[0]
    name, _sep, ending = lookup.rpartition("__")
    below = name == column or name.startswith(f"{column}__")  # "user__id__exact"
    return lookup == column or (below and ending in ENDINGS)


class ReadOnlyAdmin(NarrowAdmin):
    """Rows that only operations change."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # they count the whole table
    sortable_by = ()  # newest first; any other order sorts the whole table
    list_per_page = 50
    list_max_show_all = 200

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Rows are made by notify() and publish()."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits a row; actions have permissions of their own."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows are removed by `notifications_clean`."""
        return False

    def has_index(self, chosen: Mapping[str, Any]) -> bool:
        """Whether the rows with the `chosen` values of filters are found without reading many
        others. True for tables that stay small."""
        return True

    def find_rows(self, request: HttpRequest, term: str) -> Q | None:
        """Which rows a search for `term` means; None leaves it to Django and `search_fields`."""
        return None

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """The rows that are searched for: all, if nothing is."""
        term = search_term.strip()
        found = self.find_rows(request, term) if term else Q()
        if found is None:
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(found), False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The list that never reads a whole big table."""
        return BoundedChangeList

    def allowed(self, request: HttpRequest, permission: str) -> bool:
        """Whether the person has `notifications.<permission>`."""
        return bool(request.user.has_perm(f"notifications.{permission}"))

    def route(self, verb: str, view: Callable[..., HttpResponse]) -> URLPattern:
        """The address of `view` on one row, under the name that `page` finds it by."""
        name = f"notifications_{self.opts.model_name}_{verb}"
        return path(f"<path:pk>/{verb}/", self.admin_site.admin_view(view), name=name)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list. An action without its permission is refused, not just hidden."""
        action = request.POST.get("action", "")
        if request.method == "POST" and action and action not in self.get_actions(request):
            raise PermissionDenied
        if None in map(bounds.read_key, request.POST.getlist(ACTION_CHECKBOX_NAME)):
            raise SuspiciousOperation("No row has such a key.")
        return super().changelist_view(request, extra_context)

    def check_post(self, request: HttpRequest, permission: str) -> HttpResponse | None:
        """The refusal of what is no POST. Raises PermissionDenied without `permission`."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.allowed(request, permission):
            raise PermissionDenied
        return None

    def find(self, request: HttpRequest, pk: str) -> Any:
        """One row. Raises Http404."""
        row = self.get_object(request, pk)
        if row is None:
            raise Http404
        return row

    def act(
        self, request: HttpRequest, pk: str, permission: str, verb: Callable[..., Any], done: str
    ) -> HttpResponse:
        """Do `verb` to one row: POST only, with `permission`, answered with a message."""
        if refusal := self.check_post(request, permission):
            return refusal
        row = self.find(request, pk)
        try:
            verb(row, by=request.user)
        except WrongState as error:
            messages.error(request, str(error))
        else:
            messages.success(request, done)
        return HttpResponseRedirect(self.after(row))

    def ask(self, request: HttpRequest, values: dict[str, Any], *, back: str) -> HttpResponse:
        """The page that asks before something is done; see its template for the `values`."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "list": self.page("changelist"),
            "action": request.get_full_path(),
            "back": back,
            **values,
        }
        return TemplateResponse(request, "admin/notifications/confirm.html", context)

    def above(
        self, verb: str, button: str, form: forms.Form | None = None, *, told: str = ""
    ) -> dict[str, Any]:
        """For the list's template: what is done above it, by a POST to the page of `verb`."""
        action = self.page(verb)
        return {"above": {"form": form or (), "action": action, "button": button, "told": told}}

    def tell_errors(self, request: HttpRequest, form: forms.Form) -> None:
        """Say what is wrong with a form that stands above a list."""
        for name, errors in form.errors.items():
            messages.error(request, f"{form.fields[name].label}: {' '.join(map(str, errors))}")

    def after(self, row: models.Model) -> str:
        """Where an action on `row` leads."""
        return self.page("change", row.pk)
