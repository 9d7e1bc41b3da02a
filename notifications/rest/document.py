"""The API's own description: OpenAPI, and a page to browse it."""

# mypy: allow-untyped-calls

from __future__ import annotations

import threading
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.settings import SPECTACULAR_DEFAULTS, patched_settings
from rest_framework.exceptions import NotAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from notifications.rest.base import View, described
from notifications.rest.problems import MEDIA

DESCRIPTION = (
    "For members of staff, logged in to the site or with a token (`Authorization: Bearer ntf_…`). "
    "Lists come in pages {next, previous, results}, errors as problem details (RFC 9457)."
)

# What may go wrong, beside what each address says itself.
PROBLEMS = {
    400: "What was sent cannot be used",
    401: "Nobody is logged in, or the token holds no more",
    403: "Not allowed",
    404: "There is no such thing",
    409: "The row, or how many there are, is not what was thought",
    415: "The body is no JSON",
    422: "This Idempotency-Key came with another request",
    429: "Too many requests",
    503: "Redis or the database does not answer",
}


PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "object", "description": "by field, of a 400"},
    },
    "required": ["type", "title", "status", "detail"],
}


class BearerScheme(OpenApiAuthenticationExtension):
    """How `Bearer` is called in the document."""

    target_class = "notifications.rest.base.Bearer"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """RFC 6750."""
        return {"type": "http", "scheme": "bearer"}


class Schema(View):
    """The OpenAPI document."""

    @described(exclude=True)
    def get(self, request: Request) -> Response:
        """For programs."""
        return Response(describe())


class Docs(View):
    """The same for people."""

    @described(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        """Swagger UI, from the host's own static files (drf_spectacular_sidecar)."""
        context = {"csrf_token": get_token(request)}
        return HttpResponse(render_to_string("notifications/rest/docs.html", context))

    def handle_exception(self, exc: Exception) -> Any:
        """Who is not logged in is asked to; the rest are problems as everywhere."""
        if not isinstance(exc, NotAuthenticated):
            return super().handle_exception(exc)
        try:
            page = reverse("admin:login")
        except NoReverseMatch:  # a host without the admin
            page = None
        return redirect_to_login(self.request.get_full_path(), page)


_lock = threading.Lock()  # the library's settings are patched meanwhile
_described: dict[str, dict[str, Any]] = {}  # by where the API is mounted


def describe() -> dict[str, Any]:
    """The document of all addresses, as they are mounted; made once."""
    root = reverse("notifications_api:root").rstrip("/")
    with _lock:
        if root not in _described:
            _described[root] = _describe(root)
        return _described[root]


def _describe(root: str) -> dict[str, Any]:
    # None of the host's SPECTACULAR_SETTINGS: they are about its own API.
    ours = {
        name: value
        for name, value in SPECTACULAR_DEFAULTS.items()
        if not name.startswith("SERVE_") and name != "DEFAULT_GENERATOR_CLASS"
    }
    ours |= {
        "TITLE": "Notifications",
        "DESCRIPTION": DESCRIPTION,
        "VERSION": "1",
        "SERVERS": [{"url": root or "/"}],
        "SCHEMA_PATH_PREFIX": "/",
        "COMPONENT_SPLIT_REQUEST": True,  # what goes in is stricter than what comes out
        "APPEND_COMPONENTS": {"schemas": {"Problem": PROBLEM}},
        "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    }
    with patched_settings(ours):
        generator = SchemaGenerator(urlconf="notifications.rest.urls")
        document: dict[str, Any] = generator.get_schema(request=None, public=True)
    for name, schema in document["components"]["schemas"].items():
        if name.endswith("ShapeRequest"):
            schema["additionalProperties"] = False
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if any(operation.get("security", ())):  # else it is open to everybody
                _tell_problems(operation, path, method)
    return document


def _tell_problems(operation: dict[str, Any], path: str, method: str) -> None:
    told = {401, 403, 429, 503}
    if "requestBody" in operation:
        told |= {400, 415}
    if operation.get("parameters"):
        told |= {400, 404}  # 404: a cursor that leads nowhere, or no such row
    if "{" in path:
        told.add(404)
    if method in ("post", "delete"):
        told |= {400, 409, 415, 422}
    for status in sorted(told):
        operation["responses"].setdefault(
            str(status),
            {
                "description": PROBLEMS[status],
                "content": {MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        )
