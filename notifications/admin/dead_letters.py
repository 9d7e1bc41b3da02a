"""The dead-letter queue: read, retry, delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import conf, operations
from notifications.admin.filters import among, newest
from notifications.admin.search import find_notifications
from notifications.admin.standing import age, chip
from notifications.admin.work import Button, Row, WorkAdmin, name_of, preformatted
from notifications.errors import WrongState
from notifications.models import DeadLetter

ALIKE = 1000  # entries with one fingerprint that are counted at most


@admin.register(DeadLetter)
class DeadLetterAdmin(WorkAdmin):
    """Newest first. *Retry* tries the same row again; *Delete* removes the entry, never sends."""

    list_display = ("what", "why", "who", "age")
    list_display_links = ("what",)
    list_filter = (
        among("name", gettext_lazy("kind or function"), newest(DeadLetter, "name")),
        among("error", gettext_lazy("error class"), newest(DeadLetter, "error")),
        among("code", gettext_lazy("code"), newest(DeadLetter, "code")),
        among("queue", gettext_lazy("queue"), conf.queue_names),
    )
    search_fields = ("pk",)  # shows the search box; get_search_results does the rest
    search_help_text = gettext_lazy(
        "An order's number or whatever else finds what it is about, a notification's number, an "
        "event id, a fingerprint, or exactly the recipient's address"
    )
    ordering = ("-id",)
    actions = ("retry_chosen",)
    fieldsets = (
        (gettext_lazy("Data"), {"fields": ("shown_data",)}),
        (gettext_lazy("Error"), {"fields": ("code", "error", "shown_traceback")}),
        (
            gettext_lazy("Details"),
            {"classes": ("collapse",), "fields": ("name", "queue", "created_at", "fingerprint")},
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeadLetter]:
        """Entries without the contents of mail: attachments may be big."""
        letters: QuerySet[DeadLetter] = super().get_queryset(request)
        return letters.select_related("notification", "task").defer("notification__content")

    def has_index(self, chosen: Mapping[str, Any]) -> bool:
        """Entries of one queue and of one fingerprint are found at once."""
        return set(chosen) <= {"queue", "fingerprint"}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[DeadLetter], search_term: str
    ) -> tuple[QuerySet[DeadLetter], bool]:
        """What `search_term` may mean; an address only for those who may see it."""
        term = search_term.strip()
        if not term:
            return queryset, False
        may = self.allowed(request, "view_content")
        rows = find_notifications(term, site=self.admin_site, request=request, by_address=may)
        found = Q(notification__in=rows) | Q(fingerprint=term) | Q(task__event_id__iexact=term)
        return queryset.filter(found), False

    def get_urls(self) -> list[URLPattern]:
        """The retry button of one entry."""
        return [self.route("retry", self.retry_view), *super().get_urls()]

    # -- one entry ------------------------------------------------------------------------------

    def work_of(self, row: Any) -> Row:
        """What gave up."""
        work: Row = row.work
        return work

    def facts(self, row: Any) -> list[tuple[str, Any]]:
        """To whom, about what, how often tried, and whether others died of it."""
        work = row.work
        page = reverse(f"admin:notifications_{work._meta.model_name}_change", args=[work.pk])
        return [
            (_("Row"), format_html('<a href="{}">{}</a>', page, work)),
            (_("To"), row.shown.recipient),
            (_("About"), row.shown.about),
            (_("Attempts"), row.attempts),
            (_("Asked for"), age(work.created_at)),
            (_("Died"), age(row.created_at)),
            (_("Like it"), self._alike(row)),
        ]

    def buttons(self, request: HttpRequest, row: DeadLetter) -> list[Button]:
        """Retry, or delete after a question."""
        buttons = []
        if self.has_retry_permission(request):
            buttons.append(Button(_("Retry"), self.page("retry", row.pk), looks="default"))
        if self.has_delete_permission(request):
            url = self.page("delete", row.pk)
            buttons.append(Button(_("Delete…"), url, post=False, looks="delete"))
        return buttons

    def retry_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Try one again; the entry goes."""
        done = _("It will be tried again now.")
        return self.act(request, pk, "retry_deadletter", _retry_letter, done)

    def after(self, row: Model) -> str:
        """To the list: the entry is gone."""
        return self.page("changelist")

    def delete_model(self, request: HttpRequest, obj: DeadLetter) -> None:
        """Discard one; Django has written the audit line."""
        operations.discard(obj)

    def response_delete(
        self, request: HttpRequest, obj_display: str, obj_id: int
    ) -> HttpResponseRedirect:
        """To the list, where Django would leave people without the right to change entries."""
        messages.success(request, _("The entry is deleted; nothing was sent."))
        return HttpResponseRedirect(self.page("changelist"))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        """Discard the chosen; Django has written the audit lines."""
        operations.discard_letters(queryset)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Deleting discards: `delete_deadletter`."""
        return self.allowed(request, "delete_deadletter")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """For `retry_chosen` and the button."""
        return self.allowed(request, "retry_deadletter")

    @admin.display(description=gettext_lazy("traceback"))
    def shown_traceback(self, letter: DeadLetter) -> SafeString | str:
        """The stack trace, if our own code failed."""
        return preformatted(letter.traceback)

    def _alike(self, letter: DeadLetter) -> SafeString | str:
        others = DeadLetter.objects.filter(fingerprint=letter.fingerprint).exclude(pk=letter.pk)
        count = others[:ALIKE].count()
        if not count:
            return _("no other")
        url = f"{self.page('changelist')}?fingerprint={letter.fingerprint}"
        return format_html('<a href="{}">{}</a>', url, _("%(count)d more") % {"count": count})

    # -- the list -------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("what gave up"))
    def what(self, letter: DeadLetter) -> SafeString:
        """Its kind or function, and its number."""
        work = letter.work
        return format_html(
            '<span title="{}">{}</span><small class="ntf-note">#{} · {}</small>',
            letter.name,
            name_of(work),
            work.pk,
            letter.queue,
        )

    @admin.display(description=gettext_lazy("error"))
    def why(self, letter: DeadLetter) -> SafeString:
        """The provider's code or the error's class, and what it said."""
        word = letter.code or letter.error
        note = letter.reason.removeprefix(word).lstrip(": ")
        return chip(word or _("dead"), "bad", note)

    @admin.action(description=gettext_lazy("Retry"), permissions=["retry"])
    def retry_chosen(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        """Try the chosen ones again."""
        done = operations.retry_letters(queryset, by=request.user)
        messages.success(request, _("%(count)s will be tried again.") % {"count": done})


def _retry_letter(letter: DeadLetter, *, by: Any) -> None:
    if not operations.retry_letters(DeadLetter.objects.filter(pk=letter.pk), by=by):
        raise WrongState(_("It was retried or deleted meanwhile."))
