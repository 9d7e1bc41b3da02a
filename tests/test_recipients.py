"""Who may be written to, by environment."""

from __future__ import annotations

import pytest
from django.test import override_settings

from notifications.recipients import permitted

ANN = "Ann@Example.com"


@pytest.mark.parametrize(
    ("environment", "rule", "result"),
    [
        ("production", None, ANN),
        ("production", [], ANN),
        ("staging", None, None),
        ("staging", [], None),
        ("staging", "*", ANN),
        ("staging", ["*@example.com"], ANN),
        ("staging", ["*@staff.example.com"], None),
        ("staging", {"REDIRECT": {"email": "me@example.com"}}, "me@example.com"),
        ("staging", {"REDIRECT": {"sms": "+491701234567"}}, None),
    ],
)
def test_permitted(environment: str, rule: object, result: str | None) -> None:
    with override_settings(NOTIFICATIONS={"ENVIRONMENT": environment, "RECIPIENTS": rule}):
        assert permitted("email", ANN) == result
