"""The clock killed, doubled or skewed; the database restarted; no scheduler of RQ's; rollback."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from datetime import UTC, datetime
from urllib.parse import urlsplit

import psycopg
import pytest
from django.core.management import CommandError

from tests.faults.cutter import Cutter
from tests.faults.settings import NOTIFICATIONS
from tests.faults.world import World
from tests.workers import clock_of

LATER = """
from datetime import timedelta
from django.db import transaction
from notifications.dispatch import send_email
with transaction.atomic():
    mails = [f"person{{n}}@example.com" for n in range({count})]
    send_email(to=mails, subject="Hello", text="Hello", delay=timedelta(seconds={seconds}))
"""


def check(world: World, *, doubled: int = 0, seconds: float = 60) -> None:
    tally = world.settle(seconds)
    print(f"\n{tally}")
    assert tally.lost == 0, world.logs()[-4000:]
    assert tally.doubled <= doubled


def test_retries_fire_without_any_scheduler_of_rqs(world: World) -> None:
    refused: dict[int, int] = {}

    def twice_busy(row: int, to: str) -> str | None:
        refused[row] = refused.get(row, 0) + 1
        return "451 busy" if refused[row] <= 2 else None

    world.inbox.answer = twice_busy
    world.worker()
    world.place(3)
    check(world)
    assert set(refused.values()) == {3}


def test_a_killed_clock_is_replaced(world: World) -> None:
    worker = world.worker()
    world.wait(lambda: clock_of(worker.pid) != 0)
    world.manage("shell", "-v0", "-c", LATER.format(count=3, seconds=5))
    with world.redis.connect() as redis:
        redis.flushall()  # whatever rang is gone: only a clock can ring now
    killed = clock_of(worker.pid)
    os.kill(killed, signal.SIGKILL)
    assert world.arrived() == 0
    check(world, seconds=30)
    assert world.arrived() == 3
    assert clock_of(worker.pid) not in (0, killed)


@pytest.mark.faults
def test_many_clocks_ring_no_more_than_is_due(world: World) -> None:
    for _ in range(3):
        world.worker(command="notifications_clock")
    world.worker()
    world.worker()
    world.place(50)
    check(world)


@pytest.mark.faults
def test_workers_two_minutes_ahead_and_behind_change_nothing(world: World) -> None:
    world.inbox.delay = 0.05
    wrong = {seconds: world.worker(FAULTS_SKEW=str(seconds)) for seconds in (120, -120)}
    for seconds, worker in wrong.items():
        world.wait(lambda worker=worker: birth_of(world, worker) is not None)
        assert abs((birth_of(world, worker) - datetime.now(UTC)).total_seconds() - seconds) < 30
    world.manage("shell", "-v0", "-c", LATER.format(count=20, seconds=4))
    with world.shopping(every=0.02):
        world.wait(lambda: all(world.sent_by(each) >= 5 for each in wrong.values()))
    check(world)
    assert world.count("notifications_notification WHERE settled_at < wanted_at") == 0


def birth_of(world: World, worker: subprocess.Popen[bytes]) -> datetime | None:
    """When RQ in this worker thinks that it began; None before that."""
    with world.redis.connect() as redis:
        for key in redis.smembers("rq:workers"):
            pid, birth = redis.hmget(key, "pid", "birth")
            if birth and int(pid) == worker.pid:
                return datetime.fromisoformat(birth.decode())
    return None


def test_rolled_back_orders_send_nothing(world: World) -> None:
    world.worker()
    with pytest.raises(CommandError, match="failed after 5 orders"):
        world.place(10, "--in-one-transaction", "--fail-after", "5")
    world.place(2)
    check(world)
    assert world.count("orders_order") == 2
    confirmed = "channel = 'email' AND kind = 'order_confirmation'"
    assert world.count(f"notifications_notification WHERE {confirmed}") == 2


# What has moved a row so waits, before its statement ends, for as long as somebody has lock 12.
WAIT = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock_shared(12); RETURN NULL; END $$;
CREATE TRIGGER wait AFTER UPDATE ON notifications_notification
FOR EACH ROW WHEN ({move}) EXECUTE FUNCTION wait()
"""
MOVES = {
    "claim": "OLD.token IS NULL AND NEW.token IS NOT NULL",
    "start": "NEW.started AND NOT OLD.started",
    "settle": "NEW.state = 'sent'",
}
WAITING = "pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE '%UPDATE%'"


def restart_in(world: World, move: str, orders: int) -> None:
    """Place orders, and restart the database in the middle of the first such move of a mail."""
    assert world.postgres is not None
    world.query(WAIT.format(move=MOVES[move]))
    with psycopg.connect(world.database.url, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(12)")
        world.place(orders)
        world.wait(lambda: world.count(WAITING) > 0)
        world.postgres.restart()  # the lock is gone, too


@pytest.mark.postgres_only
@pytest.mark.parametrize("simple", [False, True])
def test_a_restarted_database_loses_nothing(world: World, simple: bool) -> None:
    assert world.postgres is not None
    world.inbox.delay = 0.05
    world.worker(simple=simple)
    restart_in(world, "claim", orders=40)
    assert world.arrived() == 0
    world.wait(lambda: world.arrived() >= 5)
    world.postgres.restart()  # in mid-send
    assert world.arrived() < 40
    check(world)
    world.postgres.restart()  # idle
    time.sleep(1)
    world.place(5)
    check(world)


@pytest.mark.faults
@pytest.mark.postgres_only
@pytest.mark.parametrize("simple", [False, True])
@pytest.mark.parametrize("move", ["start", "settle"])
def test_a_database_restarted_in_the_middle_of_a_move_loses_nothing(
    world: World, move: str, simple: bool
) -> None:
    world.worker(simple=simple)
    restart_in(world, move, orders=40)
    assert (world.arrived() > 0) is (move == "settle")
    check(world)


@pytest.mark.faults
@pytest.mark.postgres_only
@pytest.mark.parametrize("simple", [False, True])
def test_claims_that_nobody_has_heard_of_come_back(world: World, simple: bool) -> None:
    """The database has done them, and the connection is lost before it says so."""
    assert world.postgres is not None
    word = b'UPDATE "notifications_notification" SET token'
    with Cutter(world.postgres.port, {word: 3}) as way:
        url = urlsplit(world.database.url)
        address = url._replace(netloc=f"postgres@127.0.0.1:{way.port}").geturl()
        world.worker(simple=simple, DATABASE_URL=address)
        world.place(40)
        world.wait(lambda: way.cut.total() == 3)
        check(world)


@pytest.mark.postgres_only
@pytest.mark.parametrize("simple", [False, True])
def test_a_database_away_for_longer_than_the_lease_doubles_nothing(
    world: World, simple: bool
) -> None:
    assert world.postgres is not None
    world.inbox.delay = 0.2
    world.worker(simple=simple)
    world.place(30)
    world.wait(lambda: world.arrived() >= 5)
    world.postgres.stop()
    time.sleep(NOTIFICATIONS["LEASE"] + 2)
    world.postgres.start()
    check(world)
