"""What every address of the API shares.

Everything that Django REST framework would take from the host's REST_FRAMEWORK is set here, so that
those defaults neither leak in nor break it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, ClassVar, TypeVar

from django.db import models
from django.http import Http404
from django.shortcuts import get_object_or_404
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import (
    AuthenticationFailed,
    NotFound,
    ParseError,
    ValidationError,
)
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.parsers import JSONParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.settings import DEFAULTS, IMPORT_STRINGS, APISettings
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from notifications import conf
from notifications.models import ApiToken
from notifications.tokens import find_token

logger = logging.getLogger("notifications.rest")

PAGE, LONGEST_PAGE = 50, 200
DEEPEST = 64  # lists and objects inside each other

Method = TypeVar("Method", bound=Callable[..., Any])


class Json(JSONRenderer):
    """UTF-8, compact, and never NaN."""

    compact, ensure_ascii, strict = True, False, True
    charset = None


class StrictJson(JSONParser):
    """What every database stores: no NaN, no Infinity, no NUL and no half of a surrogate pair,
    nested no deeper than anybody means it."""

    strict = True

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        """The body. Raises ParseError, and ValidationError for a field that cannot be stored."""
        try:
            body = super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError("It is nested too deeply.") from None
        fields = body if isinstance(body, dict) else {"detail": body}
        for name, value in fields.items():
            if problem := _why_unstorable([name, value]):
                raise ValidationError({name if _is_text(name) else "detail": [problem]})
        return body


def _why_unstorable(value: Any, depth: int = DEEPEST) -> str:
    """Why some database would not store `value`; empty if all would."""
    if isinstance(value, str):
        return "" if _is_text(value) else "This is no text."
    if isinstance(value, float):
        return "" if isfinite(value) else "This is no number."
    if not isinstance(value, dict | list):
        return ""
    if not depth:
        return "It is nested too deeply."
    inside = (*value, *value.values()) if isinstance(value, dict) else value
    return next(filter(None, (_why_unstorable(each, depth - 1) for each in inside)), "")


def _is_text(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


class JsonOnly(BaseContentNegotiation):
    """There is one form of an answer, whatever is asked for."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        """The one for the body's media type."""
        return next(
            (each for each in parsers if request.content_type.startswith(each.media_type)), None
        )

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        """JSON."""
        return renderers[0], renderers[0].media_type


class Bearer(BaseAuthentication):
    """`Authorization: Bearer ntf_…` (RFC 6750)."""

    def authenticate(self, request: Request) -> tuple[Any, ApiToken] | None:
        """The token's owner. Raises AuthenticationFailed for one that holds no more."""
        word, _space, token = request.headers.get("Authorization", "").partition(" ")
        if word.lower() != "bearer":
            return None
        row = find_token(token.strip())
        if row is None or not row.user.is_active:
            raise AuthenticationFailed("The token is unknown, expired or revoked.")
        return row.user, row

    def authenticate_header(self, request: Request) -> str:
        """What a 401 asks for."""
        return "Bearer"


class Allowed(BasePermission):
    """Members of staff with the rights that the view names for the method."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Whether they may."""
        user: Any = request.user
        # None where the host wants no anonymous users.
        if user is None or not (user.is_authenticated and user.is_active and user.is_staff):
            return False
        method = (request.method or "").lower()
        needed = view.needs.get("get" if method == "head" else method, ())
        words = (needed,) if isinstance(needed, str) else needed
        return all(may(request, each) for each in words)


def described(**options: Any) -> Callable[[Method], Method]:
    """drf-spectacular's `extend_schema`, whatever DEFAULT_SCHEMA_CLASS of the host is."""

    def decorate(method: Method) -> Method:
        method.kwargs = {"schema": AutoSchema}  # type: ignore[attr-defined]
        return extend_schema(**options)(method)

    return decorate


def may(request: Request, permission: str) -> bool:
    """Whether the person has `notifications.<permission>`."""
    return bool(request.user.has_perm(f"notifications.{permission}"))


class Throttle(SimpleRateThrottle):
    """So many requests of one person, counted in Django's default cache."""

    def __init__(self) -> None:  # not the base's, which reads the host's rates
        rate = conf.parse_rate({**conf.DEFAULTS["REST"], **conf.get("REST")}["RATE"])
        self.rate = f"{rate.limit}/{rate.seconds}" if rate else None
        self.num_requests, self.duration = (rate.limit, rate.seconds) if rate else (0, 0)

    def allow_request(self, request: Request, view: Any) -> bool:
        """Whether there were few enough; without a cache, yes: the API is needed most while things
        are down."""
        try:
            return super().allow_request(request, view)
        except Exception as error:  # whatever the host's cache raises
            logger.warning("requests are not counted: %s", type(error).__name__)
            return True

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        """The person, or None for nobody, who gets no further than a 401."""
        pk = getattr(request.user, "pk", None)
        return None if pk is None else f"notifications-rest-{pk}"


class Pages(CursorPagination):
    """`{next, previous, results}`, the newest first: a page stays what it is while rows come."""

    page_size, max_page_size, page_size_query_param = PAGE, LONGEST_PAGE, "limit"
    ordering = "-id"
    cursor_query_param = "cursor"

    def get_page_size(self, request: Request) -> int:
        """The `limit` that is asked for. Raises ValidationError for what is none."""
        asked = request.query_params.get(self.page_size_query_param, str(PAGE))
        if not re.fullmatch("[1-9][0-9]{0,2}", asked) or int(asked) > LONGEST_PAGE:
            raise ValidationError({"limit": [f"A number from 1 to {LONGEST_PAGE}."]})
        return int(asked)

    def decode_cursor(self, request: Request) -> Cursor | None:
        """The place that is asked for. Raises NotFound for one that is none."""
        cursor = super().decode_cursor(request)
        place = None if cursor is None else cursor.position
        if place is not None and not re.fullmatch("[0-9]{1,18}", str(place)):
            raise NotFound(self.invalid_cursor_message)
        return cursor

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """For the document."""
        limit = {"type": "integer", "minimum": 1, "maximum": LONGEST_PAGE, "default": PAGE}
        return [
            {"name": "cursor", "in": "query", "required": False, "schema": {"type": "string"}},
            {"name": "limit", "in": "query", "required": False, "schema": limit},
        ]


class View(APIView):
    """One address; `needs` says which rights each method asks for."""

    needs: ClassVar[Mapping[str, str | tuple[str, ...]]] = {}

    http_method_names = ["get", "head", "post", "delete"]
    settings = APISettings(
        {"EXCEPTION_HANDLER": "notifications.rest.problems.answer"}, DEFAULTS, IMPORT_STRINGS
    )
    schema = AutoSchema()
    authentication_classes: Sequence[type[BaseAuthentication]] = (Bearer, SessionAuthentication)
    permission_classes: Sequence[type[BasePermission]] = (Allowed,)
    throttle_classes: Sequence[type[Throttle]] = (Throttle,)
    renderer_classes = (Json,)
    parser_classes = (StrictJson,)
    content_negotiation_class = JsonOnly
    pagination_class: type[Pages] | None = None  # for the document
    metadata_class = None
    versioning_class = None

    def read(self, form: type[BaseSerializer[Any]]) -> dict[str, Any]:
        """The request's body, checked. Raises ValidationError."""
        given = form(data=self.request.data)
        given.is_valid(raise_exception=True)
        return dict(given.validated_data)

    def asked(self, form: type[BaseSerializer[Any]]) -> dict[str, Any]:
        """The query, checked. Raises ValidationError."""
        # Not as the QueryDict it is: that would take "?state=" for a filter left out.
        query = dict(self.request.query_params.items())
        if self.pagination_class is not None:  # it reads these itself
            query = {name: query[name] for name in query.keys() - {"cursor", "limit"}}
        given = form(data=query)
        given.is_valid(raise_exception=True)
        return dict(given.validated_data)

    def show(self, form: type[BaseSerializer[Any]], what: Any, status: int = 200) -> Response:
        """An answer."""
        return Response(form(what, context={"request": self.request}).data, status=status)

    def page(self, form: type[BaseSerializer[Any]], rows: models.QuerySet[Any]) -> Response:
        """One page of `rows`."""
        pages = Pages()
        found = pages.paginate_queryset(rows, self.request, view=self)
        shown = form(found, many=True, context={"request": self.request})
        return pages.get_paginated_response(shown.data)

    def find(self, rows: models.QuerySet[Any], pk: int) -> Any:
        """One row. Raises Http404."""
        if pk >= 2**63:
            raise Http404
        return get_object_or_404(rows, pk=pk)
