"""The queues: how each stands, what holds it up; pause, resume, clean and empty."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import bulk, operations, queues
from notifications.admin.holds import PauseForm
from notifications.admin.screen import ScreenAdmin
from notifications.admin.standing import lasting, soon
from notifications.bulk import Verb
from notifications.errors import WrongState
from notifications.models import State
from notifications.models.screens import Queue
from notifications.queues import QueueLook
from notifications.retention import FINAL


class CleanForm(forms.Form):
    """Which ends, and how old."""

    states = forms.MultipleChoiceField(
        label=gettext_lazy("States"),
        choices=[(state.value, state.label) for state in State if state in FINAL],
        initial=[State.SENT, State.DONE],
        widget=forms.CheckboxSelectMultiple,
    )
    days = forms.IntegerField(
        label=gettext_lazy("Older than, days"), min_value=0, max_value=36_500, initial=30
    )


class EmptyForm(forms.Form):
    """The name of the queue, typed."""

    name = forms.CharField(label=gettext_lazy("Name of the queue"))


@admin.register(Queue)
class QueueAdmin(ScreenAdmin):
    """All queues at a glance, and a page for each of ours."""

    permission = "view_hold"
    template = "queues.html"

    def get_urls(self) -> list[URLPattern]:
        """The page of one queue, and what is done to it."""
        wrap = self.admin_site.admin_view
        pages = [("", "one", self.one_view)]
        pages += [
            (f"{verb}/", verb, getattr(self, f"{verb}_view"))
            for verb in ("pause", "resume", "clean", "empty")
        ]
        return [
            *super().get_urls(),
            *(
                path(f"<str:queue>/{end}", wrap(view), name=f"notifications_queue_{name}")
                for end, name, view in pages
            ),
        ]

    def values(self, request: HttpRequest) -> dict[str, Any]:
        """Every queue."""
        return {
            "looks": [
                Shown(look, self.page("one", look.name) if look.ours else "")
                for look in queues.look_at_all()
            ],
            "stopped": queues.why_nothing_goes(),
        }

    def one_view(self, request: HttpRequest, queue: str) -> HttpResponse:
        """One queue, with the forms of what may be done to it."""
        return self._one(request, queue)

    def pause_view(self, request: HttpRequest, queue: str) -> HttpResponse:
        """Pause it, or change its pause."""
        if refusal := self.check_post(request, "manage_queue"):
            return refusal
        look, form = self._look(queue), PauseForm(request.POST)
        if not form.is_valid():
            return self._one(request, queue, pause=form)
        form.pause(look.name, by=request.user)
        return self._done(request, queue, _("The queue is paused."))

    def resume_view(self, request: HttpRequest, queue: str) -> HttpResponse:
        """Let it go on: lift what holds it, its providers and its old backlog."""
        if refusal := self.check_post(request, "manage_queue"):
            return refusal
        lifted = operations.resume(self._look(queue).name, by=request.user)
        done = _("The queue goes on.") if lifted else _("Nothing held it.")
        return self._done(request, queue, done)

    def clean_view(self, request: HttpRequest, queue: str) -> HttpResponse:
        """Remove rows that ended, in the background."""
        if refusal := self.check_post(request, "manage_queue"):
            return refusal
        look, form = self._look(queue), CleanForm(request.POST)
        if not form.is_valid():
            return self._one(request, queue, clean=form)
        row = bulk.start_cleaning(
            look.name,
            states=form.cleaned_data["states"],
            older_than=timedelta(days=form.cleaned_data["days"]),
            by=request.user,
        )
        return self._started(request, queue, row)

    def empty_view(self, request: HttpRequest, queue: str) -> HttpResponse:
        """Cancel what waits, in the background, for who types the queue's name."""
        if refusal := self.check_post(request, "manage_queue"):
            return refusal
        look, form = self._look(queue), EmptyForm(request.POST)
        if form.is_valid() and form.cleaned_data["name"] != look.name:
            form.add_error("name", _("This is not the queue's name. Nothing was cancelled."))
        if not form.is_valid():
            return self._one(request, queue, empty=form)
        try:
            row = bulk.start(Verb.EMPTY, bulk.freeze_queue(look.name), by=request.user)
        except WrongState:
            return self._done(request, queue, _("Nothing waits."))
        return self._started(request, queue, row)

    def _look(self, queue: str) -> QueueLook:
        """One of our queues. Raises Http404 for any other."""
        try:
            look = queues.look_at(queue)
        except KeyError:
            raise Http404 from None
        if not look.ours:
            raise Http404
        return look

    def _one(self, request: HttpRequest, queue: str, **forms: Any) -> HttpResponse:
        if not self.has_view_permission(request):
            return self.draw(request, "queue.html", {})  # refuses, whether there is such a queue
        shown = Shown(self._look(queue))
        if self.allowed(request, "manage_queue"):
            forms = {"pause": PauseForm(), "clean": CleanForm(), "empty": EmptyForm()} | forms
        values = {
            "title": _("Queue %(name)s") % {"name": queue},
            "crumb": queue,
            "list": self.page("changelist"),
            "shown": shown,
            "forms": forms,
        }
        return self.draw(request, "queue.html", values)

    def _started(self, request: HttpRequest, queue: str, row: Any) -> HttpResponse:
        page = reverse("admin:notifications_task_change", args=[row.pk])
        done = format_html(
            '{} <a href="{}">#{}</a>', _("It runs in the background, as task"), page, row.pk
        )
        return self._done(request, queue, done)

    def _done(self, request: HttpRequest, queue: str, text: str) -> HttpResponse:
        messages.success(request, text)
        may_look = self.has_view_permission(request)
        return HttpResponseRedirect(self.page("one", queue) if may_look else reverse("admin:index"))


class Shown:
    """A queue in the words of a page; `url` is its own page, if it has one."""

    def __init__(self, look: QueueLook, url: str = "") -> None:
        self.look, self.url = look, url
        self.counts = look.stats.as_words()
        self.oldest = since(look.stats.oldest)
        self.rate = f"{look.per_minute:g}" if look.per_minute < 10 else f"{look.per_minute:.0f}"
        self.limit = f"{look.limit.limit} / {look.limit.seconds} s" if look.limit else "–"
        self.holds = [(each, _until(each)) for each in look.holds]
        self.word, self.tone = self._standing()
        letters = reverse("admin:notifications_deadletter_changelist")
        self.letters = f"{letters}?queue={look.name}"

    def _standing(self) -> tuple[str, str]:
        if self.look.paused:
            return _("paused"), "warn"
        if self.look.stats is not None and self.look.stats.paused:
            return _("held"), "warn"
        if self.holds:
            return _("held in part"), "warn"
        if not self.look.ours:
            return _("of the host"), "off"
        return (_("working"), "wait") if self.look.stats.waiting else (_("idle"), "good")


def since(seconds: float | None) -> str:
    """How long something waits."""
    return "–" if seconds is None else lasting(seconds)


def _until(held: Any) -> str:
    return _("until lifted") if held.until is None else soon(held.until)
