"""What goes wrong, as RFC 9457 has it: application/problem+json."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404
from redis.exceptions import RedisError
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from notifications.errors import (
    KeyReused,
    NotAllowed,
    NotificationsError,
    TooMany,
    WrongState,
)

MEDIA = "application/problem+json"
AGAIN = 5  # seconds after which what is away may be back


class Conflict(exceptions.APIException):
    """The row, or how many there are, is not what was thought."""

    status_code = HTTPStatus.CONFLICT
    default_detail = "Conflict."


class Away(exceptions.APIException):
    """Something that the answer needs does not answer."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    wait = AGAIN


class Reused(exceptions.APIException):
    """The same idempotency key came with another request (draft-ietf-httpapi-idempotency-key)."""

    status_code = HTTPStatus.UNPROCESSABLE_ENTITY


def answer(error: Exception, context: dict[str, Any]) -> Response | None:
    """The response to an exception; None for a bug, which Django then reports as one."""
    problem = _problem(error)
    if problem is None:
        return None
    set_rollback()
    status = HTTPStatus(problem.status_code)
    body: dict[str, Any] = {"type": "about:blank", "title": status.phrase, "status": int(status)}
    if isinstance(problem, exceptions.ValidationError):
        body |= {"detail": "What was sent cannot be used.", "errors": problem.detail}
    else:
        body["detail"] = str(problem.detail)
    headers = {}
    if header := getattr(problem, "auth_header", None):
        headers["WWW-Authenticate"] = header
    if wait := getattr(problem, "wait", None):
        headers["Retry-After"] = str(max(1, round(wait)))
    return Response(body, status=status, headers=headers, content_type=MEDIA)


def _problem(error: Exception) -> exceptions.APIException | None:
    if isinstance(error, exceptions.APIException):
        return error
    if isinstance(error, Http404):
        return exceptions.NotFound()
    if isinstance(error, PermissionDenied):
        return exceptions.PermissionDenied()
    if isinstance(error, WrongState):
        return Conflict(str(error))
    if isinstance(error, NotAllowed):
        return exceptions.PermissionDenied(str(error))
    if isinstance(error, TooMany):
        return exceptions.Throttled(error.wait)
    if isinstance(error, KeyReused):
        return Reused(str(error))
    if isinstance(error, NotificationsError):
        return exceptions.ValidationError({"detail": [str(error)]})
    if isinstance(error, RedisError):
        return Away("Redis does not answer.")
    if isinstance(error, OperationalError | InterfaceError):
        return Away("The database does not answer.")
    return None
