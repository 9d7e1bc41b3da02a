"""The dead-letter queue: read, retry, delete."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import operations
from notifications.admin.base import ReadOnlyAdmin, link_about, link_to, mask
from notifications.errors import WrongState
from notifications.models import Attempt, DeadLetter, Notification


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    """Newest first. *Retry* sends the same row again; *Delete* removes the entry, never sends."""

    list_display = (
        "id", "created_at", "name", "queue", "recipient", "about", "reason", "attempts", "similar",
    )  # fmt: skip
    list_display_links = ("id", "created_at")
    list_filter = ("queue", "name", "error", "code")
    list_select_related = ("notification", "task")
    search_fields = ("=notification__about_id", "=task__event_id", "=fingerprint", "=id")
    search_help_text = gettext_lazy("Order or other id, event id, or fingerprint")
    ordering = ("-id",)
    actions = ("retry_chosen",)
    change_form_template = "admin/notifications/dead_letter.html"
    fieldsets = (
        (None, {"fields": ("name", "queue", "reason", "error", "code", "attempts", "created_at")}),
        (gettext_lazy("What gave up"), {"fields": ("row", "recipient", "about", "shown_data")}),
        (gettext_lazy("Attempts"), {"fields": ("history",)}),
        (gettext_lazy("Traceback"), {"fields": ("shown_traceback",)}),
        (gettext_lazy("Others like it"), {"fields": ("fingerprint", "similar")}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """All of them."""
        return [name for _title, options in self.fieldsets for name in options["fields"]]

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeadLetter]:
        """Remember who looks, since what is shown depends on it."""
        self._reveal = self.allowed(request, "view_content")
        rows: QuerySet[DeadLetter] = super().get_queryset(request)
        return rows

    def get_urls(self) -> list[URLPattern]:
        """The retry button of one entry."""
        view = self.admin_site.admin_view(self.retry_view)
        return [
            path("<path:pk>/retry/", view, name="notifications_deadletter_retry"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list. An action without its permission is refused, not just hidden."""
        action = request.POST.get("action", "")
        if request.method == "POST" and action and action not in self.get_actions(request):
            raise PermissionDenied
        return super().changelist_view(request, extra_context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The detail page, with the buttons the person may press."""
        extra = {"may_retry": self.has_retry_permission(request), **(extra_context or {})}
        return super().change_view(request, object_id, form_url, extra)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Deleting discards: `delete_deadletter`."""
        return self.allowed(request, "delete_deadletter")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """For `retry_chosen` and the button."""
        return self.allowed(request, "retry_deadletter")

    @admin.action(description=gettext_lazy("Retry the chosen entries"), permissions=["retry"])
    def retry_chosen(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        """Send the chosen ones again."""
        done = operations.retry_letters(queryset, by=request.user)
        messages.success(request, _("%(count)s will be sent again.") % {"count": done})

    def retry_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Send one again; the entry goes."""
        return self.act(
            request, pk, "retry_deadletter", _retry_letter, _("It will be sent again now.")
        )

    def go_back(self, row: Any) -> HttpResponse:
        """To the list: the entry is gone."""
        return HttpResponse(status=302, headers={"Location": reverse(_LIST)})

    def delete_model(self, request: HttpRequest, obj: DeadLetter) -> None:
        """Discard one; Django has written the audit line."""
        operations.discard(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        """Discard the chosen; Django has written the audit lines."""
        operations.discard_letters(queryset)

    @admin.display(description=gettext_lazy("row"))
    def row(self, letter: DeadLetter) -> SafeString | str:
        """A link to what gave up."""
        return link_to(letter.work)

    @admin.display(description=gettext_lazy("recipient"))
    def recipient(self, letter: DeadLetter) -> str:
        """The address, masked unless the person may see it."""
        if letter.notification is None:
            return "–"
        address = letter.notification.to
        return address if self._reveal else mask(address)

    @admin.display(description=gettext_lazy("about"))
    def about(self, letter: DeadLetter) -> SafeString | str:
        """A link to what it is about."""
        return link_about(letter.work.about_type, letter.work.about_id)

    @admin.display(description=gettext_lazy("data"))
    def shown_data(self, letter: DeadLetter) -> SafeString | str:
        """The original context or payload, for those who may see contents."""
        if not self._reveal:
            return _("hidden")
        work = letter.work
        data = work.context if isinstance(work, Notification) else work.payload
        return format_html("<pre>{}</pre>", "\n".join(f"{k} = {v!r}" for k, v in data.items()))

    @admin.display(description=gettext_lazy("attempts"))
    def history(self, letter: DeadLetter) -> SafeString:
        """Each attempt with its time and answer, newest first."""
        attempts = Attempt.objects.filter(notification=letter.notification, task=letter.task)
        lines = [
            f"{each.created_at:%Y-%m-%d %H:%M:%S}  {each.number}. {each.provider or '–'}  "
            f"{each.get_outcome_display()}  {each.code} {each.text}"
            for each in attempts.order_by("-id")[:50]
        ]
        return format_html("<pre>{}</pre>", "\n".join(lines))

    @admin.display(description=gettext_lazy("traceback"))
    def shown_traceback(self, letter: DeadLetter) -> SafeString | str:
        """The stack trace, if our own code failed."""
        return format_html("<pre>{}</pre>", letter.traceback) if letter.traceback else "–"

    @admin.display(description=gettext_lazy("like it"))
    def similar(self, letter: DeadLetter) -> SafeString:
        """A link to all with the same kind, error class and code."""
        url = f"{reverse(_LIST)}?q={letter.fingerprint}"
        return format_html('<a href="{}">{}</a>', url, letter.code or letter.error or _("show"))


_LIST = "admin:notifications_deadletter_changelist"


def _retry_letter(letter: DeadLetter, *, by: Any) -> None:
    if not operations.retry_letters(DeadLetter.objects.filter(pk=letter.pk), by=by):
        raise WrongState(_("It was retried or deleted meanwhile."))
