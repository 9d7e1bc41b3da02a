"""django-rq's screens, for holders of its own permission only.

As they come, any staff user may read arguments, requeue, delete and empty queues
(django-rq issues 257 and 495).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from django.contrib.admin.views.decorators import staff_member_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django_rq import urls

PERMISSION = "django_rq.admin"  # declared by django_rq.models.Dashboard

View = Callable[..., HttpResponse]


def guard(view: View) -> View:
    """The view for staff who hold PERMISSION; 403 for other staff, the login page for others."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if not request.user.has_perm(PERMISSION):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return staff_member_required(guarded)


app_name = urls.app_name
urlpatterns = [
    URLPattern(each.pattern, guard(each.callback), each.default_args, each.name)
    for each in urls.urlpatterns
]
