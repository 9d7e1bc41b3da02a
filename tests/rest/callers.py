"""People who call the API."""

from __future__ import annotations

import json
from typing import Any

from django.test import Client

from notifications.tokens import make_token
from tests.admin.screens import boss, staff

__all__ = ["Caller", "anybody", "boss", "staff"]


class Caller:
    """Sends JSON and reads JSON."""

    def __init__(self, client: Client, **headers: str) -> None:
        self.client, self.headers = client, headers

    def __call__(
        self, method: str, path: str, body: Any = None, *, status: int = 200, **headers: str
    ) -> Any:
        """The answer's JSON; the test fails unless it has this status."""
        given = {**self.headers, **headers}
        data = {} if body is None else {"data": json.dumps(body)}
        answer = self.client.generic(
            method.upper(), f"/api/{path}", content_type="application/json", headers=given, **data
        )
        assert answer.status_code == status, answer.content
        self.answer = answer
        return answer.json() if answer.content else None


def anybody() -> Caller:
    return Caller(Client())


def superuser() -> Caller:
    return Caller(boss())


def person(*permissions: str) -> Caller:
    return Caller(staff(*permissions))


def bearer(user: Any, **options: Any) -> Caller:
    _row, token = make_token(user, name="a test", **options)
    return Caller(Client(), Authorization=f"Bearer {token}")
