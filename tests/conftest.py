"""Starts the servers of the test run, then Django's settings on top of them.

The run has a Redis of its own and one database, SQLite in a file or, with `--postgres`,
PostgreSQL. Both are in the environment (REDIS_URL, DATABASE_URL), so that a process which a test
starts works on what the test itself sees. The fixtures are in tests/fixtures.py.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from urllib.parse import urlsplit

import django
import pytest
from django.conf import settings

from notifications.testing.guarded import make_folder
from tests.servers import PostgresServer, RedisServer

REDIS = pytest.StashKey[RedisServer]()
POSTGRES = pytest.StashKey[PostgresServer | None]()  # None: no server, or one that is not ours
DATABASE_FIXTURES = {"db", "transactional_db", "mould"}  # with which a test uses the database


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        action="store_true",
        help="run on PostgreSQL: the one at DATABASE_URL, or else a server of this run",
    )
    parser.addoption(
        "--pictures",
        metavar="FOLDER",
        help="keep a picture of every screen of the admin there (tests/acceptance)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.option.help or config.option.version:
        return
    if settings.configured:
        # They would have been read before our servers run, and point at somebody else's.
        raise pytest.UsageError("Unset DJANGO_SETTINGS_MODULE, and leave out --ds.")
    servers = ExitStack()
    config.add_cleanup(servers.close)
    redis = config.stash[REDIS] = servers.enter_context(RedisServer())
    config.stash[POSTGRES] = None
    if config.option.postgres:
        address = os.environ.get("DATABASE_URL", "")
        if not address.startswith(("postgres://", "postgresql://", "psql://", "pgsql://")):
            postgres = config.stash[POSTGRES] = servers.enter_context(PostgresServer())
            address = postgres.url("shop")
        parts = urlsplit(address)
        name = f"test_{parts.path.strip('/')}"
        address = parts._replace(path=f"/{name}").geturl()
    else:
        folder = make_folder("sqlite")
        servers.callback(shutil.rmtree, folder, ignore_errors=True)
        name = str(folder / "test.sqlite3")
        address = f"sqlite:///{name}"
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SECRET_KEY": "only-for-tests",
        "ENVIRONMENT": "test",  # what migrate stamps the database with
        "REDIS_URL": redis.url,
        "DATABASE_URL": address,
    }
    # Django makes the database under the very name that DATABASE_URL tells other processes.
    settings.DATABASES["default"]["TEST"] = {"NAME": name}
    django.setup()
    config.pluginmanager.import_plugin("tests.fixtures")


def pytest_report_header(config: pytest.Config) -> str:
    return f"database: {settings.DATABASES['default']['ENGINE'].rpartition('.')[2]}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    postgres = config.option.postgres
    other = {"sqlite_only", "browser"} if postgres else {"postgres_only"}
    left_out = {
        item
        for item in items
        if other & {mark.name for mark in item.iter_markers()}
        or (postgres and not _uses_database(item))
    }
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def _uses_database(item: pytest.Item) -> bool:
    """Whether a test may come out differently on another database."""
    fixtures = set(getattr(item, "fixturenames", ()))
    return bool(item.get_closest_marker("django_db") or fixtures & DATABASE_FIXTURES)
