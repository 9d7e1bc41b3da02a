"""The servers that all systems share, and the environment that leads their processes there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from redis import Redis

from benchmarks.sinks import Sink
from tests.servers import PostgresServer, RedisServer

ROOT = Path(__file__).resolve().parent.parent
DATABASE = "bench"  # recreated for every run


@dataclass(slots=True)
class Surroundings:
    """One Redis that keeps nothing on disk, one PostgreSQL as durable as it is by default.

    And one mail server for each run.
    """

    redis: RedisServer
    postgres: PostgresServer
    sink: Sink | None = None

    def environment(self) -> dict[str, str]:
        """The environment of every process of a system."""
        inherited = {
            name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ
        }
        return {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "NODE_ENV": "production",
            "BENCH_REDIS": str(self.redis.port),
            "BENCH_POSTGRES": str(self.postgres.port),
            "BENCH_DATABASE": DATABASE,
            "BENCH_SMTP": str(self.sink.port if self.sink else 0),
            "BENCH_SINK_LOG": str(self.sink.log) if self.sink else "",
        }

    def connect_redis(self) -> Redis:
        """A client of the shared Redis."""
        return self.redis.connect()

    def connect_postgres(self, database: str = DATABASE) -> psycopg.Connection:
        """A connection in autocommit mode."""
        return psycopg.connect(self.postgres.url(database), autocommit=True)

    def empty(self, template: str) -> None:
        """Forget all jobs and rows: a new database, copied from `template`."""
        with self.connect_redis() as redis:
            redis.flushall()
        self.drop_database(DATABASE)
        self._execute("CREATE DATABASE {} TEMPLATE {}", DATABASE, template)
        self._execute("CHECKPOINT")

    def create_database(self, name: str) -> None:
        """Make an empty database."""
        self.drop_database(name)
        self._execute("CREATE DATABASE {}", name)

    def drop_database(self, name: str) -> None:
        """Remove a database, and cut who is connected."""
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _execute(self, statement: str, *names: str) -> None:
        with self.connect_postgres("postgres") as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def provide_surroundings(postgres: int) -> Iterator[Surroundings]:
    """Start the servers, with PostgreSQL of that major version (0: any), and stop them after."""
    with RedisServer() as redis, PostgresServer(version=postgres) as server:
        yield Surroundings(redis, server)
