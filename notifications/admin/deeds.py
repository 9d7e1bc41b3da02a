"""The audit log: what people did to this app's rows, newest first."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from notifications import bounds
from notifications.admin.screen import ScreenAdmin
from notifications.admin.standing import age
from notifications.models.screens import Deed

SHOWN = 100  # lines of one page


@admin.register(Deed)
class DeedAdmin(ScreenAdmin):
    """Lines of Django's own log, for holders of `admin.view_logentry`."""

    template = "deeds.html"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may read the log."""
        return bool(request.user.has_perm("admin.view_logentry"))

    def values(self, request: HttpRequest) -> dict[str, Any]:
        """One page; `?q=` is a row's number or exactly a person's name, `?before=` a line."""
        term = request.GET.get("q", "").replace("\0", "").strip()
        before = bounds.read_key(request.GET.get("before", ""))
        deeds = LogEntry.objects.filter(content_type__app_label="notifications")
        if term:
            person = f"user__{get_user_model().USERNAME_FIELD}"
            number = term.removeprefix("#")
            deeds = deeds.filter(Q(object_id=number) | Q(**{person: term}))
        if before is not None:
            deeds = deeds.filter(pk__lt=before)
        found = list(deeds.select_related("user", "content_type").order_by("-pk")[: SHOWN + 1])
        shown = found[:SHOWN]
        older = {"before": shown[-1].pk, **({"q": term} if term else {})} if shown else {}
        return {
            "term": term,
            "deeds": [
                (age(each.action_time), each.user, each.get_change_message(), _subject(each))
                for each in shown
            ],
            "older": urlencode(older) if len(found) > SHOWN else "",
        }


def _subject(deed: LogEntry) -> SafeString | str:
    """What it was done to, with a link where that has a page."""
    kind = deed.content_type
    if kind is None or not deed.object_id or deed.is_deletion():
        return deed.object_repr
    try:
        page = reverse(f"admin:notifications_{kind.model}_change", args=[deed.object_id])
    except NoReverseMatch:
        return deed.object_repr
    return format_html('<a href="{}">{}</a>', page, deed.object_repr)
