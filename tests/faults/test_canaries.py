"""Secrets are made at send time: they are in the mail, and in no row, Redis key or log line."""

from __future__ import annotations

import re

from tests.faults.world import World

ASK = """
from django.contrib.auth import get_user_model
from django.db import transaction
from django.test import Client
user = get_user_model().objects.exclude(email="").first()
page = Client(SERVER_NAME="localhost").post("/password-reset/", {"email": user.email})
print(page.status_code)
"""


def everything_stored(world: World) -> str:
    """Every text of every table, and every key and value of Redis."""
    if world.database_url.startswith("sqlite"):
        names = "SELECT name FROM sqlite_master WHERE type = 'table'"
    else:
        names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    tables = [name for (name,) in world.query(names)]
    text = [str(world.query(f'SELECT * FROM "{name}"')) for name in tables]
    with world.redis.connect() as redis:
        text += [f"{key!r} {redis.dump(key)!r}" for key in redis.scan_iter("*")]
    return "\n".join(text)


def test_a_reset_link_is_in_the_mail_and_nowhere_else(world: World) -> None:
    world.worker(sabotage=("accepted", 1))  # through a crash, too
    world.place(1)
    assert world.settle().lost == 0
    answer = world.manage("shell", "-v0", "-c", ASK)
    assert answer.stdout.strip().endswith("302"), answer.stderr
    world.wait(lambda: any("reset" in body.lower() for body in world.inbox.bodies))
    assert world.settle().lost == 0
    [mail] = [body for body in world.inbox.bodies if "password_reset" in body or "/reset/" in body][
        :1
    ]
    tokens = re.findall(r"[a-z0-9]{5,8}-[0-9a-f]{32}", mail.replace("=\r\n", "").replace("=\n", ""))
    assert tokens, mail
    stored, logged = everything_stored(world), world.logs()
    for secret in tokens:
        assert secret not in stored
        assert secret not in logged
    assert "Traceback" not in logged
