"""What is paused, by whom, why and until when; and the pause itself."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import conf, operations
from notifications.admin.base import ReadOnlyAdmin
from notifications.admin.standing import age, ago, chip, noted, soon
from notifications.models import Hold

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

LONGEST = 365 * 24 * 60  # minutes a pause may be told to last


class PauseForm(forms.Form):
    """For how long, and why."""

    minutes = forms.IntegerField(
        label=gettext_lazy("Minutes"),
        required=False,
        min_value=1,
        max_value=LONGEST,
        widget=forms.NumberInput(attrs={"placeholder": gettext_lazy("until lifted")}),
    )
    reason = forms.CharField(label=gettext_lazy("Reason"), required=False, max_length=200)

    def pause(self, queue: str, *, by: Any) -> None:
        """Do what the form says to `queue`."""
        minutes = self.cleaned_data["minutes"]
        duration = None if minutes is None else timedelta(minutes=minutes)
        operations.pause(queue, reason=self.cleaned_data["reason"], duration=duration, by=by)


class PauseOneForm(PauseForm):
    """What to pause, for how long, and why."""

    queue = forms.ChoiceField(
        label=gettext_lazy("Queue"),
        choices=lambda: [(name, name) for name in conf.queue_names() if conf.owns_queue(name)],
    )
    field_order = ("queue", "minutes", "reason")


class OpenFilter(admin.SimpleListFilter):
    """Those that hold, or those that are history."""

    title = gettext_lazy("state")
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, StrOrPromise]]:
        """Both."""
        return [("1", gettext_lazy("not lifted")), ("0", gettext_lazy("lifted"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Hold]) -> QuerySet[Hold]:
        """The holds that are chosen."""
        chosen = {"1": True, "0": False}.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(lifted_at__isnull=chosen)


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    """Open holds first; lifted ones are history."""

    list_display = ("what", "standing", "why", "since")
    list_filter = (OpenFilter, "scope", "cause")
    list_select_related = ("by",)
    ordering = (F("lifted_at").desc(nulls_first=True), "-id")
    actions = ("lift_chosen",)
    change_list_template = "admin/notifications/list.html"
    fields = ("scope", "name", "cause", "reason", "by", "created_at", "until", "lifted_at")

    def get_urls(self) -> list[URLPattern]:
        """The pause."""
        view = self.admin_site.admin_view(self.pause_view)
        return [path("pause/", view, name="notifications_hold_pause"), *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list, below the form for those who may pause."""
        extra = dict(extra_context or {})
        if self.has_manage_permission(request):
            extra |= self.above("pause", _("Pause this queue"), PauseOneForm())
        return super().changelist_view(request, extra)

    def pause_view(self, request: HttpRequest) -> HttpResponse:
        """Pause a queue, or change its pause."""
        if refusal := self.check_post(request, "manage_queue"):
            return refusal
        form = PauseOneForm(request.POST)
        if form.is_valid():
            queue = form.cleaned_data["queue"]
            form.pause(queue, by=request.user)
            messages.success(request, _("The queue %(queue)s is paused.") % {"queue": queue})
        self.tell_errors(request, form)
        return HttpResponseRedirect(self.page("changelist"))

    @admin.action(description=gettext_lazy("Lift"), permissions=["manage"])
    def lift_chosen(self, request: HttpRequest, queryset: QuerySet[Hold]) -> None:
        """Let what is held go on."""
        lifted = sum(operations.lift(hold, by=request.user) for hold in queryset)
        messages.success(request, _("%(count)s lifted.") % {"count": lifted})

    def has_manage_permission(self, request: HttpRequest) -> bool:
        """For the form and `lift_chosen`."""
        return self.allowed(request, "manage_queue")

    @admin.display(description=gettext_lazy("what"))
    def what(self, held: Hold) -> str:
        """The scope and the name."""
        return f"{held.get_scope_display()} {held.name}".strip()

    @admin.display(description=gettext_lazy("state"))
    def standing(self, held: Hold) -> SafeString:
        """Whether it holds, and why."""
        if held.lifted_at is not None:
            return chip(_("lifted"), "off", held.reason)
        if held.until is None:
            return chip(_("held"), "warn", held.reason)
        if held.until <= timezone.now():
            return chip(_("over"), "off", held.reason)
        ends = _("ends %(time)s") % {"time": soon(held.until)}
        return chip(_("held"), "warn", f"{held.reason} · {ends}")

    @admin.display(description=gettext_lazy("cause"))
    def why(self, held: Hold) -> SafeString:
        """Its cause, and the person."""
        return noted(held.get_cause_display(), str(held.by or ""))

    @admin.display(description=gettext_lazy("since"))
    def since(self, held: Hold) -> SafeString:
        """How long ago it began, and ended."""
        over = held.lifted_at and _("lifted %(time)s") % {"time": ago(held.lifted_at)}
        return noted(age(held.created_at), over or "")
