"""Filters that offer what the code knows, or what is new: no DISTINCT over a whole table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from notifications.admin.base import COUNTED
from notifications.models import State
from notifications.models.work import FAILED

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

PENDING = Q(state=State.PENDING)


class StandingFilter(admin.SimpleListFilter):
    """The states as people think of them; `?state=` still takes each of them alone."""

    title = _("state")
    parameter_name = "standing"
    groups: dict[str, tuple[StrOrPromise, Q]] = {
        "waiting": (_("waiting"), PENDING & Q(attempts=0)),
        "retrying": (_("retrying"), PENDING & Q(attempts__gt=0)),
        "sent": (_("sent"), Q(state__in=[State.SENT, State.DELIVERED, State.READ, State.DONE])),
        "failed": (_("failed"), Q(state__in=FAILED)),
        "unknown": (_("unknown"), Q(state=State.UNKNOWN)),
        "withdrawn": (
            _("not sent on purpose"),
            Q(state__in=[State.CANCELLED, State.EXPIRED, State.SUPPRESSED]),
        ),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, StrOrPromise]]:
        """The groups."""
        return [(name, label) for name, (label, _condition) in self.groups.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of the chosen group."""
        chosen = self.groups.get(self.value() or "")
        return queryset.filter(chosen[1]) if chosen else queryset


class TaskStandingFilter(StandingFilter):
    """The same for what is not sent but run."""

    groups = {
        "waiting": StandingFilter.groups["waiting"],
        "retrying": StandingFilter.groups["retrying"],
        "done": (_("done"), StandingFilter.groups["sent"][1]),
        "failed": StandingFilter.groups["failed"],
        "withdrawn": (_("not run on purpose"), StandingFilter.groups["withdrawn"][1]),
    }


class ValuesFilter(admin.SimpleListFilter):
    """Rows with one value in a column; see `among`."""

    def values(self) -> Iterable[str]:
        """What may be chosen."""
        raise NotImplementedError

    def label(self, value: str) -> str:
        """What people call a value."""
        return value

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The values. One alone is no choice, and the filter is left out, unless an address asks
        for something: Django forgets what a filter without choices was asked."""
        asked = self.value()
        values = sorted({value for value in (*self.values(), asked) if value})
        choice = len(values) > 1 or asked
        return [(value, self.label(value)) for value in values] if choice else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows with the chosen value."""
        value = self.value()
        return queryset if value is None else queryset.filter(**{str(self.parameter_name): value})


def among(
    column: str,
    called: StrOrPromise,
    values: Callable[[], Iterable[str]],
    *,
    label: Callable[[str], str] = str,
) -> type[ValuesFilter]:
    """A filter on `column` that offers `values()`, asked at each look, each with its `label`."""

    class Among(ValuesFilter):
        title = called
        parameter_name = column

        def values(self) -> Iterable[str]:
            return values()

        def label(self, value: str) -> str:
            return label(value)

    return Among


def newest(model: type[Model], column: str) -> Callable[[], Iterable[str]]:
    """The values of `column` in the COUNTED newest rows of `model`."""

    def values() -> Iterable[str]:
        rows = model._default_manager.order_by("-pk").values("pk")[:COUNTED]
        return (
            model._default_manager.filter(pk__in=rows)
            .order_by(column)
            .values_list(column, flat=True)
            .distinct()
        )

    return values
