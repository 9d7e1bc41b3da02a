"""Web push for the pages of a site. Mount it anywhere:

    path("push/", include("notifications.browsers"))

    GET   push/worker.js     the service worker that shows messages; registered for the whole site
    POST  push/subscribe/    what PushManager.subscribe() gave, as JSON
    POST  push/unsubscribe/  {"endpoint": …}

and put `{% notifications_push %}` where people shall be able to turn it on. Everybody subscribes
their own browser; the session tells who it is, and each change asks for Django's CSRF token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_GET, require_POST

from notifications import subscribing
from notifications.bodies import read_json
from notifications.errors import InvalidAddress, UnknownChannel

LARGEST = 8_192  # bytes of a request

_WORKER = Path(__file__).parent / "static/notifications/push-worker.js"

Act = Callable[[HttpRequest, Mapping[str, Any]], HttpResponse]


def _changing(act: Act) -> Callable[[HttpRequest], HttpResponse]:
    """A POST with JSON, by somebody who is logged in."""

    @never_cache
    @csrf_protect
    @require_POST
    @wraps(act)
    def answer(request: HttpRequest) -> HttpResponse:
        if not request.user.is_authenticated:
            return _problem(401, _("Log in first."))
        raw = request.read(LARGEST + 1)
        try:
            given = read_json(raw) if len(raw) <= LARGEST else None
        except ValueError:
            given = None
        if not isinstance(given, dict):
            return _problem(400, _("Send a JSON object."))
        return act(request, given)

    return answer


@_changing
def subscribe(request: HttpRequest, given: Mapping[str, Any]) -> HttpResponse:
    """Push to this browser from now on."""
    try:
        subscribing.subscribe(request.user, given)  # type: ignore[arg-type]  # not anonymous
    except (InvalidAddress, UnknownChannel) as error:
        return _problem(400, str(error))
    return JsonResponse({"subscribed": True}, status=201)


@_changing
def unsubscribe(request: HttpRequest, given: Mapping[str, Any]) -> HttpResponse:
    """Push to this browser no more."""
    endpoint = str(given.get("endpoint", ""))
    subscribing.unsubscribe(request.user, endpoint)  # type: ignore[arg-type]  # not anonymous
    return JsonResponse({"subscribed": False})


@require_GET
@cache_control(max_age=3600)
def worker(request: HttpRequest) -> HttpResponse:
    """The service worker. The header lets it serve the whole site, wherever this is mounted."""
    script = _WORKER.read_text()
    return HttpResponse(
        script, content_type="text/javascript", headers={"Service-Worker-Allowed": "/"}
    )


def _problem(status: int, detail: str) -> JsonResponse:
    return JsonResponse({"detail": detail}, status=status)


app_name = "notifications_push"

urlpatterns = [
    path("worker.js", worker, name="worker"),
    path("subscribe/", subscribe, name="subscribe"),
    path("unsubscribe/", unsubscribe, name="unsubscribe"),
]
