"""One installation for each fault test, on SQLite or with `--postgres` on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.database import Mould
from tests.faults.world import World, installation, open_shop
from tests.servers import PostgresServer

WINDOW = 55  # rows a worker may have started and not settled: 5 lanes and two flushes of 25


@pytest.fixture(scope="session")
def fault_postgres(request: pytest.FixtureRequest) -> Iterator[PostgresServer | None]:
    if not request.config.option.postgres:
        yield None
        return
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def mould(fault_postgres: PostgresServer | None, tmp_path_factory: pytest.TempPathFactory) -> Mould:
    return Mould(tmp_path_factory.mktemp("mould"), fault_postgres, open_shop)


@pytest.fixture
def world(mould: Mould, fault_postgres: PostgresServer | None, tmp_path: Path) -> Iterator[World]:
    with installation(tmp_path, mould, fault_postgres) as running:
        yield running


@pytest.fixture
def unharmed(world: World) -> None:
    """No worker is killed: one that is merely slow does not lose its rows."""
    world.variables["FAULTS_LEASE"] = "30"
