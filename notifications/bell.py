"""The inbox for browsers and scripts of a site. Mount it anywhere:

    path("inbox/", include("notifications.bell"))

    GET   inbox/            the page; the template notifications/inbox.html is yours to replace
    GET   inbox/messages/   {"unread", "results": [...], "next"}; ?before=<id>&limit=20
    GET   inbox/unread/     {"unread", "label"}: what the bell shows
    POST  inbox/read/       {"ids": [7, 8]} or {"ids": "all"}, as JSON or as a form

Everybody sees and reads their own messages. The session tells who it is, and every change asks
for Django's CSRF token, whatever middleware the site has.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal

from django.contrib.auth.decorators import login_required
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    QueryDict,
)
from django.shortcuts import render
from django.urls import path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_GET, require_POST

from notifications import inbox
from notifications.bodies import read_json

LONGEST_PAGE = 100
MOST_IDS = 1000  # in one request

View = Callable[[HttpRequest], HttpResponse]


class _Refused(Exception):
    """Raised for a request that makes no sense; the message says why."""


def label(unread: int) -> str:
    """What the bell says to those who cannot see it."""
    if not unread:
        return _("Notifications, none unread")
    if unread >= inbox.MOST:
        return _("Notifications, %(most)d or more unread") % {"most": inbox.MOST}
    return ngettext(
        "Notifications, %(count)d unread", "Notifications, %(count)d unread", unread
    ) % {"count": unread}


def short(unread: int) -> str:
    """The number on the bell; empty for none."""
    if unread >= inbox.MOST:
        return f"{inbox.MOST - 1}+"
    return str(unread or "")


def _answering_json(view: View) -> View:
    """401 instead of the way to a login form, and 400 with the reason."""

    @never_cache
    @csrf_protect
    @wraps(view)
    def answer(request: HttpRequest) -> HttpResponse:
        if not request.user.is_authenticated:
            return _problem(401, _("Log in first."))
        try:
            return view(request)
        except _Refused as error:
            return _problem(400, str(error))

    return answer


@never_cache
@csrf_protect
@require_GET
@login_required
def show_page(request: HttpRequest) -> HttpResponse:
    """One page of the reader's messages, with forms to mark them read."""
    try:
        before, limit = _read_range(request.GET)
    except _Refused:
        before, limit = None, inbox.PAGE
    items = inbox.inbox(request.user, limit=limit + 1, before=before)
    context = {
        "items": items[:limit],
        "unread": inbox.unread_count(request.user),
        "older": items[limit - 1].id if len(items) > limit else None,
        "newest": before is None,
    }
    return render(request, "notifications/inbox.html", context)


@require_GET
@_answering_json
def list_messages(request: HttpRequest) -> HttpResponse:
    """A page of messages, newest first, and where the next one is."""
    before, limit = _read_range(request.GET)
    items = inbox.inbox(request.user, limit=limit + 1, before=before)
    page = items[:limit]
    following = None
    if len(items) > limit:
        query = QueryDict(mutable=True)
        query.update({"before": str(page[-1].id), "limit": str(limit)})
        following = f"{request.path}?{query.urlencode()}"
    results = [
        {
            "id": item.id,
            "title": item.title,
            "text": item.text,
            "type": item.type,
            "link": item.link,
            "read": item.read,
            "at": item.at,
        }
        for item in page
    ]
    unread = inbox.unread_count(request.user)
    return JsonResponse({"unread": unread, "results": results, "next": following})


@require_GET
@_answering_json
def tell_unread(request: HttpRequest) -> HttpResponse:
    """How many are unread, as a number and in words."""
    unread = inbox.unread_count(request.user)
    return JsonResponse({"unread": unread, "short": short(unread), "label": label(unread)})


@require_POST
@_answering_json
def mark_read(request: HttpRequest) -> HttpResponse:
    """Mark the reader's messages read; forms come back to the page they were on."""
    inbox.mark_read(request.user, _read_ids(request))
    if request.content_type == "application/json" or not request.accepts("text/html"):
        return JsonResponse({"unread": inbox.unread_count(request.user)})
    back = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(
        back, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        back = reverse("notifications_inbox:page")
    return HttpResponseRedirect(back, status=303)


def _read_range(query: QueryDict) -> tuple[int | None, int]:
    before = query.get("before")
    limit = _read_number(query.get("limit", str(inbox.PAGE)), name="limit")
    if not 1 <= limit <= LONGEST_PAGE:
        raise _Refused(f"limit must be from 1 to {LONGEST_PAGE}.")
    return None if before is None else _read_number(before, name="before"), limit


def _read_ids(request: HttpRequest) -> list[int] | Literal["all"]:
    given: Any
    if request.content_type == "application/json":
        try:
            body = read_json(request.body)
        except ValueError:
            raise _Refused("The body is no JSON.") from None
        given = body.get("ids") if isinstance(body, dict) else None
    else:
        given = request.POST.getlist("ids")
        given = "all" if given == ["all"] else given
    if given == "all":
        return "all"
    if not isinstance(given, list) or not given or len(given) > MOST_IDS:
        raise _Refused(f'ids must be "all" or a list of 1 to {MOST_IDS} numbers.')
    return [_read_number(each, name="ids") for each in given]


def _read_number(value: object, *, name: str) -> int:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) < 19):
        raise _Refused(f"{name} must be a whole number.")
    return int(text)


def _problem(status: int, detail: str) -> JsonResponse:
    """An error as RFC 9457 has it."""
    return JsonResponse(
        {"status": status, "detail": detail},
        status=status,
        content_type="application/problem+json",
    )


app_name = "notifications_inbox"
urlpatterns = [
    path("", show_page, name="page"),
    path("messages/", list_messages, name="messages"),
    path("unread/", tell_unread, name="unread"),
    path("read/", mark_read, name="read"),
]
