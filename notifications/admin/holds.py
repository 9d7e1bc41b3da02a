"""What is paused, by whom, why and until when; and the pause itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

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
from notifications.admin.standing import age, ago, chip, soon
from notifications.models import Hold

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


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    """Open holds first; lifted ones are history."""

    list_display = ("what", "standing", "cause", "by", "since", "lifted")
    list_filter = ("scope", "cause", ("lifted_at", admin.EmptyFieldListFilter))
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

    @admin.display(description=gettext_lazy("since"))
    def since(self, held: Hold) -> SafeString:
        """How long ago it began."""
        return age(held.created_at)

    @admin.display(description=gettext_lazy("lifted"))
    def lifted(self, held: Hold) -> str:
        """How long ago it ended."""
        return "–" if held.lifted_at is None else ago(held.lifted_at)
