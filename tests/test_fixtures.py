"""What tests of outages rely on: the servers are this run's, and are back when the test ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import django_rq
import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError, connection
from redis import Redis
from redis.exceptions import RedisError

from tests.servers import PostgresServer, RedisServer

COUNT = """
import django
django.setup()
from django.contrib.auth.models import Group
print(Group.objects.count())
"""


@pytest.mark.parametrize("turn", ["first", "second"])
def test_each_test_finds_an_empty_redis_whatever_the_last_one_did(
    redis: Redis, redis_server: RedisServer, turn: str
) -> None:
    assert redis.keys() == []
    redis.set("left", turn)
    redis_server.pause() if turn == "first" else redis_server.stop()


def test_the_shop_uses_the_runs_redis(redis: Redis, redis_server: RedisServer) -> None:
    redis.set("mine", 1)
    shops = django_rq.get_connection("email")
    assert shops.get("mine") == b"1"
    redis_server.stop()
    with pytest.raises(RedisError):
        shops.get("mine")


def test_other_processes_see_the_tests_database(transactional_db: None) -> None:
    Group.objects.create(name="packers")
    printed = subprocess.run(
        [sys.executable, "-c", COUNT],
        cwd=Path(__file__).parent.parent,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert printed.stdout.split() == ["1"]


@pytest.mark.postgres_only
def test_committed_rows_survive_a_crash_of_the_runs_postgres(
    postgres_server: PostgresServer,
) -> None:
    Group.objects.create(name="packers")
    postgres_server.crash()
    with pytest.raises(OperationalError):
        Group.objects.count()
    postgres_server.start()
    connection.close()
    assert Group.objects.count() == 1


@pytest.mark.postgres_only
def test_the_runs_database_is_postgres() -> None:
    assert connection.vendor == "postgresql"
    assert os.environ["DATABASE_URL"].startswith("postgres")


@pytest.mark.sqlite_only
def test_the_runs_database_is_a_file_of_sqlite_with_a_write_ahead_log(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone() == ("wal",)
