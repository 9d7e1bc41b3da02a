"""Tokens are made, shown once, listed and revoked: by command and in the admin."""

from __future__ import annotations

import json
import re
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.test import Client

from notifications.models import ApiToken
from notifications.muting import muted
from notifications.tokens import make_token
from orders.models import User
from tests.admin.screens import boss, list_of, staff, text_of, url
from tests.rest.callers import Caller

pytestmark = pytest.mark.django_db(transaction=True)


def run(*args: str) -> str:
    out = StringIO()
    call_command("notifications_token", *args, stdout=out)
    return out.getvalue()


def try_token(token: str, *, status: int = 200) -> None:
    Caller(Client(), Authorization=f"Bearer {token}")("get", "queues/", status=status)


@pytest.fixture
def chief() -> User:
    with muted():
        return User.objects.create_superuser("chief")


def test_the_command_makes_lists_and_revokes(chief: User) -> None:
    token = run("--for", "chief", "--name", "deploy").partition("\n")[0]
    try_token(token)
    listed = run()
    assert re.search(r"#\d+  deploy  for chief  until 20\d\d-.* last used 20\d\d-", listed)
    assert token not in listed
    [row] = json.loads(run("--json"))["tokens"]
    told = json.loads(run("--revoke", str(row["id"]), "--json"))
    assert told == {"id": row["id"], "revoked": True}
    try_token(token, status=401)
    assert "no tokens" in run()


def test_a_token_may_last_until_it_is_revoked(chief: User) -> None:
    made = json.loads(run("--for", "chief", "--lasts", "", "--json"))
    assert made["expires_at"] is None
    try_token(made["token"])


@pytest.mark.parametrize(
    "args", [["--for", "nobody"], ["--for", "carl"], ["--revoke", "7"],
             ["--for", "chief", "--lasts", "long"]],
)  # fmt: skip
def test_the_command_says_what_it_cannot_do(chief: User, args: list[str]) -> None:
    with muted():
        User.objects.create_user("carl")
    with pytest.raises(CommandError) as refused:
        run(*args)
    assert refused.value.returncode == 2
    assert not ApiToken.objects.exists()


def test_the_admin_shows_a_token_once() -> None:
    client = staff("add_apitoken", "view_apitoken", "delete_apitoken", "view_hold")
    form = text_of(client, url("apitoken", "add"))
    assert "Days it lasts" in form
    assert "_addanother" not in form
    answer = client.post(url("apitoken", "add"), {"name": "deploy", "days": "30"})
    assert "no-store" in answer.headers["Cache-Control"]
    found = re.search(r"ntf_[\w-]{40,}", answer.content.decode())
    assert found is not None
    try_token(found[0])
    row = ApiToken.objects.get()
    pages = [list_of("apitoken"), url("apitoken", "change", row.pk)]
    assert all(found[0] not in text_of(client, page) for page in pages)
    assert "ends in 4\xa0weeks" in text_of(client, list_of("apitoken"))
    assert "is refused from then on" in text_of(client, url("apitoken", "delete", row.pk))
    assert found[0] not in str(LogEntry.objects.values())
    client.post(url("apitoken", "delete", row.pk), {"post": "yes"})
    try_token(found[0], status=401)
    assert LogEntry.objects.count() >= 2


@pytest.mark.parametrize("days", ["0", "-1", "", "99999"])
def test_the_admin_wants_a_time(days: str) -> None:
    answer = boss().post(url("apitoken", "add"), {"name": "deploy", "days": days})
    assert "errorlist" in answer.content.decode()
    assert not ApiToken.objects.exists()


def test_others_tokens_are_not_seen(chief: User) -> None:
    theirs, _token = make_token(chief, name="theirs")
    client: Any = staff("view_apitoken", "delete_apitoken")
    assert "theirs" not in text_of(client, list_of("apitoken"))
    assert client.post(url("apitoken", "delete", theirs.pk), {"post": "yes"}).status_code == 302
    assert ApiToken.objects.exists()
    assert "theirs" in text_of(boss(), list_of("apitoken"))
