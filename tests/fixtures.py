"""The fixtures of all tests; those of one module stand in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connections
from redis import Redis

from notifications import rings
from tests.conftest import POSTGRES, REDIS
from tests.servers import PostgresServer, RedisServer


@pytest.fixture
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """The run's Redis server, for outages: `stop()`, `start()`, `pause()`, `resume()`.

    It runs when the test begins, and again when it has ended.
    """
    server = request.config.stash[REDIS]
    _forget_outages()
    yield server
    server.resume()
    server.start()
    _forget_outages()


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    """A client of the run's Redis, which is empty when the test begins."""
    rings.flush()  # what an earlier test asked to ring
    with redis_server.connect() as client:
        client.flushall()
        yield client


@pytest.fixture
def postgres_server(
    request: pytest.FixtureRequest, transactional_db: None
) -> Iterator[PostgresServer]:
    """The run's PostgreSQL server, for outages: `stop()`, `start()`, `restart()`, `crash()`.

    Only for tests marked `postgres_only`. It runs when the test begins, and again when it has
    ended.
    """
    server = request.config.stash[POSTGRES]
    if server is None:
        pytest.skip("the server at DATABASE_URL is not ours to stop")
    yield server
    server.start()
    connections.close_all()


def _forget_outages() -> None:
    """The bell leaves a Redis alone for seconds after it failed, in whichever test that was."""
    if rings._the_bell is not None:
        rings._the_bell._quiet_until.clear()
