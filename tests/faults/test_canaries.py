"""Secrets are made at send time: they are in the mail, and in no row, Redis key or log line."""

from __future__ import annotations

import re

from tests.faults.world import World

ASK = """
from django.contrib.auth import get_user_model
from django.db import transaction
from django.test import Client
from django.urls import reverse
user = get_user_model().objects.exclude(email="").first()
user.set_password("a word nobody knows")
user.save()
page = Client(SERVER_NAME="localhost").post(reverse("password_reset"), {"email": user.email})
print(page.status_code)
"""


def everything_stored(world: World) -> str:
    """Every text of every table, and every key and value of Redis."""
    if world.database.url.startswith("sqlite"):
        names = "SELECT name FROM sqlite_master WHERE type = 'table'"
    else:
        names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    tables = [name for (name,) in world.query(names)]
    text = [str(world.query(f'SELECT * FROM "{name}"')) for name in tables]
    with world.redis.connect() as redis:
        text += [f"{key!r} {redis.dump(key)!r}" for key in redis.scan_iter("*")]
    return "\n".join(text)


def tokens(world: World) -> set[str]:
    """The secrets of all reset links that arrived (RFC 2045: "=" at a line's end is no content)."""
    mails = "".join(world.inbox.bodies).replace("=\r\n", "")
    return set(re.findall(r"/account/password/\w+/([0-9a-z]+-[0-9a-f]{32})/", mails))


def test_a_reset_link_is_in_the_mail_and_nowhere_else(world: World) -> None:
    world.worker(sabotage=("accepted", 1))  # through a crash, too
    world.place(1)
    assert world.settle().lost == 0
    answer = world.manage("shell", "-v0", "-c", ASK)
    assert answer.stdout.strip().endswith("302"), answer.stderr
    world.wait(lambda: bool(tokens(world)))
    assert world.settle().lost == 0
    [secret] = tokens(world)
    stored, logged = everything_stored(world), world.logs()
    assert secret not in stored
    assert secret not in logged
    assert "Traceback" not in logged
