"""The dead-letter queue: read, retry, discard; one, the chosen, a group, or all that match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core import signing
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from notifications import bulk, conf, dead_letters, operations
from notifications.admin.about import NOTHING
from notifications.admin.filters import among, newest
from notifications.admin.search import find_dead_tasks, find_notifications
from notifications.admin.standing import age, chip
from notifications.admin.work import (
    Button,
    Row,
    WorkAdmin,
    name_of,
    preformatted,
    read_kind,
)
from notifications.bulk import Frozen, Verb
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
    looked_up = ("fingerprint",)
    search_fields = ("pk",)  # shows the search box; find_rows does the rest
    search_help_text = gettext_lazy(
        "An order's number or whatever else finds what it is about, a notification's number, an "
        "event id, a fingerprint, or exactly the recipient's address"
    )
    ordering = ("-id",)
    actions = ("retry_chosen", "discard_chosen")
    change_list_template = "admin/notifications/dead_letters.html"
    deleting = {
        "title": gettext_lazy("Delete"),
        "warning": gettext_lazy("The entry goes, and nothing is sent. What gave up stays dead."),
        "button": gettext_lazy("Yes, delete without sending"),
    }
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

    def find_rows(self, request: HttpRequest, term: str) -> Q:
        """What `term` may mean; an address only for those who may see it."""
        may = self.allowed(request, "view_content")
        rows = find_notifications(term, site=self.admin_site, request=request, by_address=may)
        return Q(notification__in=rows) | Q(fingerprint=term) | Q(task__in=find_dead_tasks(term))

    def get_urls(self) -> list[URLPattern]:
        """The retry button of one entry, the groups, and what is done to many."""
        wrap, name = self.admin_site.admin_view, "notifications_deadletter"
        return [
            path("groups/", wrap(self.groups_view), name=f"{name}_groups"),
            path("many/", wrap(self.many_view), name=f"{name}_many"),
            self.route("retry", self.retry_view),
            *super().get_urls(),
        ]

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
            (_("To"), row.shown.linked),
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

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Deleting discards: `delete_deadletter`."""
        return self.allowed(request, "delete_deadletter")

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Ours. Django's own deletion would list every single entry."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

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

    # -- many -----------------------------------------------------------------------------------

    @admin.action(description=gettext_lazy("Retry…"), permissions=["retry"])
    def retry_chosen(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> HttpResponse:
        """Ask, then try the chosen ones again."""
        return self._ask_about(request, Verb.RETRY, queryset)

    @admin.action(description=gettext_lazy("Discard…"), permissions=["delete"])
    def discard_chosen(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> HttpResponse:
        """Ask, then remove the chosen ones without sending."""
        return self._ask_about(request, Verb.DISCARD, queryset)

    def groups_view(self, request: HttpRequest) -> HttpResponse:
        """What died, grouped by what it died of."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "title": _("Dead letters by error"),
            "list": self.page("changelist"),
            "many": self.page("many"),
            "groups": [(group, *self._told(group)) for group in dead_letters.groups()],
            "may_retry": self.has_retry_permission(request),
            "may_discard": self.has_delete_permission(request),
        }
        return TemplateResponse(request, "admin/notifications/groups.html", context)

    def many_view(self, request: HttpRequest) -> HttpResponse:
        """Ask about all that match the address's values; with a POST, do what was asked about."""
        if request.method == "POST":
            return self._start(request)
        verb = _read_verb(request.GET.get("verb"))
        if not self.allowed(request, _PERMISSIONS[verb]):  # before many are counted
            raise PermissionDenied
        return self._ask(request, verb, bulk.freeze_letters(match=_match(request)))

    def _ask_about(
        self, request: HttpRequest, verb: Verb, queryset: QuerySet[DeadLetter]
    ) -> HttpResponse:
        """The same for an action: all that match, if all are chosen and the filters can say so."""
        others = set(request.GET) - set(bulk.MATCHED) - {"p", "all"}
        if request.POST.get("select_across") == "1" and not others:
            frozen = bulk.freeze_letters(match=_match(request))
        else:
            chosen = queryset.order_by("pk").values_list("pk", flat=True)[: bulk.MOST_CHOSEN + 1]
            try:
                frozen = bulk.freeze_letters(ids=list(chosen))
            except WrongState as error:
                messages.error(request, str(error))
                return HttpResponseRedirect(request.get_full_path())
        return self._ask(request, verb, frozen)

    def _ask(self, request: HttpRequest, verb: Verb, frozen: Frozen) -> HttpResponse:
        if not frozen.count:
            messages.warning(request, _("There is none."))
            return HttpResponseRedirect(self.page("changelist"))
        retry = verb is Verb.RETRY
        values = {
            "title": _("Retry") if retry else _("Discard"),
            "tone": "warn" if retry else "bad",
            "question": _ask_how_many(verb, frozen.count),
            "warning": _(
                "Just these: what dies from now on is left alone. It runs in the background."
            ),
            "sample": self._sample(request, frozen),
            "action": self.page("many"),
            "hidden": [("asked", signing.dumps([verb, asdict(frozen)], salt=SALT, compress=True))],
            "form": CanaryForm() if retry and frozen.count > bulk.CANARIES else None,
            "button": _("Yes, retry") if retry else _("Yes, discard without sending"),
            "looks": "default" if retry else "delete",
        }
        return self.ask(request, values, back=self.page("changelist"))

    def _start(self, request: HttpRequest) -> HttpResponse:
        if not any(self.allowed(request, permission) for permission in _PERMISSIONS.values()):
            raise PermissionDenied
        try:
            word, fields = signing.loads(request.POST.get("asked", ""), salt=SALT, max_age=ASKED)
        except signing.BadSignature:
            messages.error(request, _("The question is too old. Ask again."))
            return HttpResponseRedirect(self.page("changelist"))
        verb = Verb(word)
        if not self.allowed(request, _PERMISSIONS[verb]):
            raise PermissionDenied
        canary = bulk.CANARIES if verb is Verb.RETRY and "canary" in request.POST else 0
        row = bulk.start(verb, Frozen(**fields), canary=canary, by=request.user)
        messages.success(request, _("It runs in the background, as task #%(pk)d.") % {"pk": row.pk})
        if self.allowed(request, "view_task"):
            return HttpResponseRedirect(reverse("admin:notifications_task_change", args=[row.pk]))
        return HttpResponseRedirect(self.page("changelist"))

    def _sample(self, request: HttpRequest, frozen: Frozen) -> list[SafeString]:
        letters: list[Any] = list(
            bulk.letters_of(frozen)
            .select_related("notification", "task")
            .defer("notification__content", "traceback")
            .order_by("-pk")[:SAMPLE]
        )
        self.dress(request, letters)
        return [_line(each) for each in letters]

    def _told(self, group: dead_letters.Group) -> tuple[str, SafeString, SafeString]:
        return (
            read_kind(group.newest.name.rpartition(".")[2]), age(group.first_at), age(group.last_at)
        )  # fmt: skip


SALT = "notifications.admin.dead_letters"
ASKED = 3600  # seconds a question may be answered after it was asked
SAMPLE = 5  # entries that a question shows

_PERMISSIONS = {Verb.RETRY: "retry_deadletter", Verb.DISCARD: "delete_deadletter"}


class CanaryForm(forms.Form):
    """Whether a few go first."""

    canary = forms.BooleanField(
        label=gettext_lazy("Send 5 first"),
        initial=True,
        required=False,
        help_text=gettext_lazy("The others follow only if these arrive."),
    )


def _line(letter: Any) -> SafeString:
    """One dressed entry of a sample."""
    name = f"{name_of(letter.work)} #{letter.work.pk}"
    words = (name, letter.shown.recipient, letter.shown.about, letter.reason)
    return format_html_join(" · ", "{}", ((word,) for word in words if word != NOTHING))


def _match(request: HttpRequest) -> dict[str, str]:
    """The columns and values in the address. Raises SuspiciousOperation for what none can hold."""
    found = {name: request.GET[name] for name in bulk.MATCHED if name in request.GET}
    if any("\0" in value for value in found.values()):
        raise SuspiciousOperation("No column holds NUL.")
    return found


def _read_verb(word: str | None) -> Verb:
    for verb in _PERMISSIONS:
        if verb == word:
            return verb
    raise Http404


def _ask_how_many(verb: Verb, count: int) -> str:
    if verb is Verb.RETRY:
        text = ngettext("Retry %(count)d dead letter?", "Retry %(count)d dead letters?", count)
    else:
        text = ngettext(
            "Discard %(count)d dead letter without sending?",
            "Discard %(count)d dead letters without sending?",
            count,
        )
    return text % {"count": count}


def _retry_letter(letter: DeadLetter, *, by: Any) -> None:
    if not operations.retry_letters(DeadLetter.objects.filter(pk=letter.pk), by=by):
        raise WrongState(_("It was retried or deleted meanwhile."))
