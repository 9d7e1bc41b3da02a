"""The screens of durable work: a list that answers at a glance, a page that tells the story."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from notifications import bulk, operations
from notifications.admin.about import NOTHING, describe_abouts
from notifications.admin.base import ReadOnlyAdmin
from notifications.admin.recipients import link_recipient, name_recipients
from notifications.admin.standing import age, chip, judge, noted
from notifications.admin.timeline import entries
from notifications.models import Notification, State, Task

RETRIED = {State.DEAD, State.UNKNOWN, State.CANCELLED, State.EXPIRED, State.SUPPRESSED}

CHOSEN = 1000  # rows that an action takes within one request
INDEXED = {"waiting", "retrying", "failed", "unknown"}  # ways to stand: see StandingFilter

Row = Notification | Task


@dataclass(frozen=True, slots=True)
class Shown:
    """What the person who looks may see of one row. It is kept on the row: an admin object serves
    many people at once."""

    recipient: str
    linked: SafeString | str  # the same; of an inbox, a link to the page of its user
    about: SafeString | str
    revealed: bool  # with `view_content`


@dataclass(frozen=True, slots=True)
class Button:
    """Something to do with a row."""

    label: str
    url: str
    post: bool = True  # else a link, to a page that asks
    looks: str = ""  # "default" or "delete", as Django's own buttons


class WorkAdmin(ReadOnlyAdmin):
    """Notifications, tasks and their dead letters."""

    change_form_template = "admin/notifications/row.html"

    # -- what differs ---------------------------------------------------------------------------

    def work_of(self, row: Any) -> Row:
        """The work behind a row of this list."""
        work: Row = row
        return work

    def buttons(self, request: HttpRequest, row: Any) -> list[Button]:
        """What the person may do with `row` as it stands."""
        return []

    def facts(self, row: Any) -> list[tuple[str, Any]]:
        """What stands at the top of the page, with its names."""
        return []

    def more(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """More values for the page's template."""
        return {}

    # -- what is the same -----------------------------------------------------------------------

    def dress(self, request: HttpRequest, rows: Iterable[Any]) -> None:
        """Give each row its `shown`, for all of them with a few queries."""
        rows = list(rows)
        works = [self.work_of(row) for row in rows]
        revealed = self.allowed(request, "view_content")
        abouts = describe_abouts(works, site=self.admin_site, request=request)
        names = name_recipients(works, revealed=revealed)
        for row, work, name, about in zip(rows, works, names, abouts, strict=True):
            linked: SafeString | str = name
            if revealed:  # the address of the page would tell who it is
                linked = link_recipient(work, name, site=self.admin_site, request=request)
            row.shown = Shown(name, linked, about, revealed)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The list, with its page's rows dressed."""
        changes = super().get_changelist_instance(request)
        changes.result_list = list(changes.result_list)
        self.dress(request, changes.result_list)
        return changes

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """One row, dressed."""
        row = super().get_object(request, object_id, from_field)
        if row is not None:
            self.dress(request, [row])
        return row

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        """The page: how the row stands, what may be done, what happened, and the rest."""
        if obj is not None:
            work = self.work_of(obj)
            context |= {
                "title": capfirst(self.opts.verbose_name),
                "subtitle": f"{name_of(work)} #{work.pk}",
                "standing": judge(work),
                "facts": self.facts(obj),
                "buttons": self.buttons(request, obj),
                "timeline": entries(work, revealed=obj.shown.revealed),
                **self.more(request, obj),
            }
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description=gettext_lazy("state"))
    def standing(self, row: Any) -> SafeString:
        """How it stands: a coloured word, and when or why."""
        standing = judge(self.work_of(row))
        return chip(standing.word, standing.tone, standing.note)

    @admin.display(description=gettext_lazy("recipient, about"))
    def who(self, row: Any) -> SafeString:
        """The address, masked unless the person may see it, and a link to what it is about."""
        if row.shown.linked == row.shown.about == NOTHING:
            return format_html("{}", NOTHING)
        return format_html(
            '<span class="ntf-address">{}</span> <span class="ntf-about">{}</span>',
            row.shown.linked,
            row.shown.about,
        )

    @admin.display(description=gettext_lazy("age"))
    def age(self, row: Any) -> SafeString:
        """How long ago it was asked for, or gave up; and how often it was tried."""
        tried = ngettext("%(count)d attempt", "%(count)d attempts", row.attempts)
        note = tried % {"count": row.attempts}
        return noted(age(row.created_at), note if row.attempts else "")

    @admin.display(description=gettext_lazy("given"))
    def shown_data(self, row: Any) -> SafeString | str:
        """The stored facts or arguments, for those who may see contents."""
        if not row.shown.revealed:
            return _("hidden")
        work = self.work_of(row)
        data = work.context if isinstance(work, Notification) else work.payload
        return preformatted("\n".join(f"{name} = {value!r}" for name, value in data.items()))


class RowAdmin(WorkAdmin):
    """Notifications and tasks themselves, which can be retried and cancelled."""

    actions = ("retry_chosen", "cancel_chosen")
    looked_up = ("state", "queue")

    def has_index(self, chosen: Mapping[str, Any]) -> bool:
        """Rows that wait, that failed and of an unknown fate have indexes of their own."""
        return str(chosen.get("standing", "")) in INDEXED

    def get_urls(self) -> list[URLPattern]:
        """The actions of one row."""
        views = {"retry": self.retry_view, "cancel": self.cancel_view}
        return [self.route(verb, view) for verb, view in views.items()] + super().get_urls()

    def buttons(self, request: HttpRequest, row: Any) -> list[Button]:
        """Retry what ended unsent, cancel what waits."""
        buttons = []
        erased = getattr(row, "erased_at", None) is not None
        if row.state in RETRIED and not erased and self.has_retry_permission(request):
            buttons.append(Button(_("Retry"), self.page("retry", row.pk), looks="default"))
        if row.state == State.PENDING and self.has_cancel_permission(request):
            buttons.append(Button(_("Cancel"), self.page("cancel", row.pk)))
        letter = getattr(row, "dead_letter", None)
        if letter is not None and self.allowed(request, "view_deadletter"):
            page = reverse("admin:notifications_deadletter_change", args=[letter.pk])
            buttons.append(Button(_("Dead letter"), page, post=False))
        return buttons

    def retry_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Try the same row again."""
        done = _("It will be tried again now.")
        return self.act(request, pk, "retry_notification", operations.retry, done)

    def cancel_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Withdraw a waiting row."""
        done = _("It is cancelled.")
        return self.act(request, pk, "cancel_notification", self.cancel, done)

    def cancel(self, row: Any, *, by: Any) -> None:
        """Withdraw a waiting row. Raises WrongState."""
        operations.cancel(row, by=by)

    @admin.action(description=gettext_lazy("Retry"), permissions=["retry"])
    def retry_chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Retry the chosen rows that ended undone."""
        if self._are_too_many(request, queryset):
            return
        done = operations.retry_rows(queryset, by=request.user)
        messages.success(request, _("%(count)s will be tried again.") % {"count": done})

    @admin.action(description=gettext_lazy("Cancel"), permissions=["cancel"])
    def cancel_chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Cancel the chosen rows that still wait."""
        if self._are_too_many(request, queryset):
            return
        done = operations.cancel_rows(queryset, by=request.user)
        messages.success(request, _("%(count)s cancelled.") % {"count": done})

    def _are_too_many(self, request: HttpRequest, queryset: QuerySet[Any]) -> bool:
        """Whether a request would take too long, said to the person."""
        too_many = bool(queryset.order_by()[CHOSEN : CHOSEN + 1])
        if too_many:
            text = _(
                "Choose at most %(most)d here. Dead letters can be retried by filter, and what "
                "waits in a queue is cancelled on the queue's page."
            )
            messages.error(request, text % {"most": CHOSEN})
        return too_many

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """For the button and `retry_chosen`."""
        return self.allowed(request, "retry_notification")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """For the button and `cancel_chosen`."""
        return self.allowed(request, "cancel_notification")


def preformatted(text: str) -> SafeString | str:
    """Text with its lines as they are, or a dash."""
    return format_html('<pre class="ntf-text">{}</pre>', text) if text else NOTHING


def name_of(work: Row) -> str:
    """A row as people read it: "Order confirmation", the function without its module, or what is
    done to many rows."""
    if isinstance(work, Task):
        return (work.payload and capfirst(bulk.describe(work))) or work.name.rpartition(".")[2]
    return read_kind(work.kind) if work.kind else _("Mail without a kind")


def read_kind(kind: str) -> str:
    """ "Order confirmation" for "order_confirmation"."""
    return kind.replace("_", " ").capitalize()
