"""Plain SQL on the shop's database: nothing that it tells comes from the code under test."""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.servers import PostgresServer

SQLITE = "sqlite:///"


class Database:
    """The one at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._server: psycopg.Connection[Any] | None = None

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """The rows of an answer."""
        if self.url.startswith(SQLITE):
            path = self.url.removeprefix(SQLITE)
            with closing(sqlite3.connect(path, timeout=20)) as file:
                return file.execute(text).fetchall()
        try:
            return self._ask(text)
        except psycopg.OperationalError:  # it was restarted since
            self.close()
            return self._ask(text)

    def count(self, text: str) -> int:
        """How many rows `SELECT … FROM text` has."""
        return int(self.query(f"SELECT COUNT(*) FROM {text}")[0][0])

    def close(self) -> None:
        """Leave no connection open."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _ask(self, text: str) -> list[tuple[Any, ...]]:
        if self._server is None:
            self._server = psycopg.connect(self.url, autocommit=True)
        found = self._server.execute(text)  # type: ignore[call-overload]
        return found.fetchall() if found.description else []


class Mould:
    """Makes databases of shops that are open and have no customers; `open_shop` made the first."""

    def __init__(
        self, folder: Path, server: PostgresServer | None, open_shop: Callable[[str], None]
    ) -> None:
        self._file = folder / "mould.sqlite3"
        self._server = server
        if server is None:
            open_shop(f"{SQLITE}{self._file}")
        else:
            open_shop(server.create_database("mould"))

    def make(self, folder: Path) -> str:
        """The address of a new one; on SQLite it lies in `folder`."""
        if self._server is None:
            return f"{SQLITE}{shutil.copy(self._file, folder / 'faults.sqlite3')}"
        name = f"faults_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self._server.url(), autocommit=True) as server:
            server.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE mould").format(sql.Identifier(name))
            )
        return self._server.url(name)
