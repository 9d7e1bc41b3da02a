"""Health and metrics over HTTP, beside the callbacks: see `notifications.urls`.

GET health/live/    200: this process answers
GET health/ready/   200, or 503 while its database does not answer
GET health/         200 or 503 while messages do not go out; what is wrong for staff only
GET metrics/        Prometheus text, with a bearer token (METRICS_TOKEN)
"""

from __future__ import annotations

import hmac
from math import ceil

from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from notifications import conf, health, turnstile
from notifications.health import Level
from notifications.metrics import CONTENT_TYPE, render


@require_safe
@never_cache
def live(request: HttpRequest) -> HttpResponse:
    """The process answers."""
    return JsonResponse({"status": "live"})


@require_safe
@never_cache
def ready(request: HttpRequest) -> HttpResponse:
    """Whether it can serve."""
    able = health.is_ready()
    return JsonResponse({"status": "ready" if able else "not ready"}, status=200 if able else 503)


@require_safe
@never_cache
def whole(request: HttpRequest) -> HttpResponse:
    """How the whole is; what is wrong is for staff."""
    staff = _is_staff(request)
    if not staff and (wait := turnstile.health.wait(request)):
        return HttpResponse(
            "429\n", status=429, content_type="text/plain", headers={"Retry-After": ceil(wait)}
        )
    found = health.glance()
    body = found.as_dict() if staff else found.for_strangers()
    return JsonResponse(body, status=503 if found.level is Level.FAILING else 200)


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """For Prometheus."""
    token = str(conf.get("METRICS_TOKEN"))
    given = request.headers.get("Authorization", "")
    if not token or not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        return HttpResponse(
            "401\n", status=401, content_type="text/plain", headers={"WWW-Authenticate": "Bearer"}
        )
    return HttpResponse(render(), content_type=CONTENT_TYPE)


def _is_staff(request: HttpRequest) -> bool:
    try:
        user = getattr(request, "user", None)
        return bool(user and user.is_staff and user.has_perm("notifications.view_notification"))
    except DatabaseError:  # where sessions and users are; that it is away is worth an answer
        return False
