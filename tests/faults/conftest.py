"""One installation for each fault test, on SQLite or with `--postgres` on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.world import World, installation
from tests.servers import PostgresServer

WINDOW = 55  # rows a worker may have started and not settled: 5 lanes and two flushes of 25


@pytest.fixture(scope="session")
def fault_postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    server = None
    if request.config.option.postgres:
        server = request.getfixturevalue("fault_postgres")
    with installation(tmp_path, server) as running:
        yield running
