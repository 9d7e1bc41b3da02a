"""The tasks: handlers of events and other durable calls."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import bounds, bulk, conf, operations
from notifications.admin.filters import TaskStandingFilter, among
from notifications.admin.standing import age
from notifications.admin.work import RowAdmin, name_of
from notifications.events import topics
from notifications.models import Task
from notifications.tasks import all_tasks

REFRESH = 5  # seconds
FOUND = 1000  # rows that each way of looking brings up


@admin.register(Task)
class TaskAdmin(RowAdmin):
    """List with filters; a page with attempts, progress and result."""

    list_display = ("what", "standing", "queue", "age")
    list_display_links = ("what",)
    list_filter = (
        TaskStandingFilter,
        among("queue", gettext_lazy("queue"), conf.queue_names),
        among("topic", gettext_lazy("topic"), topics),
    )
    search_fields = ("pk",)  # shows the search box; find_rows does the rest
    search_help_text = gettext_lazy(
        "Its number or idempotency key, exactly; among the newest also its function or event id"
    )
    ordering = ("-id",)
    fieldsets = (
        (gettext_lazy("Data"), {"fields": ("shown_data", "shown_result")}),
        (
            gettext_lazy("Details"),
            {
                "classes": ("collapse",),
                "fields": (
                    "name", "topic", "event_id", "queue", "priority", "due_at", "settled_at",
                    "retry", "key", "lapses",
                ),
            },
        ),
    )  # fmt: skip

    def find_rows(self, request: HttpRequest, term: str) -> Q:
        """What `term` may mean. What has no index is looked for among the newest rows."""
        rows = Task.objects.order_by("-pk").values_list("pk", flat=True)
        recent = Q(name=term)
        with suppress(ValueError):
            recent |= Q(event_id=UUID(term))
        number = bounds.read_key(term.removeprefix("#"))
        found = {
            *([] if number is None else [number]),
            *rows.filter(key=term, name__in=all_tasks())[:FOUND],
            *rows.filter(recent, pk__gt=bounds.floor_of(Task))[:FOUND],
        }
        return Q(pk__in=found)

    # -- one row --------------------------------------------------------------------------------

    def facts(self, row: Task) -> list[tuple[str, Any]]:
        """Of which event, how far, how often tried, when asked for."""
        done = bulk.count_done(row)
        return [
            *([(_("Work"), bulk.describe(row))] if bulk.describe(row) else []),
            *([(_("Done"), done)] if done else []),
            (_("Event"), row.topic or "–"),
            (_("Progress"), _bar(row) or "–"),
            (_("Attempts"), row.attempts),
            (_("Asked for"), age(row.created_at)),
        ]

    def more(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """The page of work on many rows is fetched anew while it runs."""
        return {"refresh": REFRESH if bulk.can_stop(row) else 0}

    def cancel(self, row: Any, *, by: Any) -> None:
        """Withdraw a task that waits; stop one that works through many rows."""
        if bulk.can_stop(row):
            bulk.stop(row, by=by)
        else:
            operations.cancel(row, by=by)

    @admin.display(description=gettext_lazy("result"))
    def shown_result(self, row: Any) -> str:
        """What the function returned, for those who may see contents."""
        if row.result is None:
            return "–"
        return repr(row.result) if row.shown.revealed else _("hidden")

    # -- the list -------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("task"))
    def what(self, row: Task) -> SafeString:
        """Its function, its number and its topic."""
        details = " · ".join(word for word in (f"#{row.pk}", row.topic) if word)
        return format_html(
            '<span title="{}">{}</span><small class="ntf-note">{}</small>',
            row.name,
            name_of(row),
            details,
        )

    @admin.display(description=gettext_lazy("state"))
    def standing(self, row: Task) -> SafeString:
        """How it stands, with a bar once it has told how far it is."""
        return format_html("{}{}", super().standing(row), _bar(row))


def _bar(row: Task) -> SafeString | str:
    if not 0 < row.progress < 100:
        return ""
    return format_html('<progress max="100" value="{0}">{0} %</progress>', row.progress)
