"""kill -9 at every point: nothing is lost, and doubled is at most what was started."""

from __future__ import annotations

import signal
import time
from collections import Counter

import pytest

from tests.faults.conftest import WINDOW
from tests.faults.saboteur import POISON
from tests.faults.settings import NOTIFICATIONS
from tests.faults.world import World
from tests.workers import clock_of, horse_of, is_alive

FEW, MANY = 40, 120  # orders: more than may be doubtful at one kill, and at three
LEASE = NOTIFICATIONS["LEASE"]

WAITING = "notifications_notification WHERE channel = 'email' AND state = 'pending'"
POINTS = ["pop", "claim", "start", "call", "accepted", "settle", "settled"]


def check(world: World, *, orders: int, kills: int, seconds: float = 60) -> None:
    """Nothing is lost, and no message came again but for a kill that left it doubtful."""
    tally = world.settle(seconds)
    doubtful = [each.total() for each in world.kills]
    print(f"\n{tally}; started at the kills and not settled = {doubtful}")
    assert [each.left for each in world.saboteurs if each.left] == []
    assert len(doubtful) == kills
    assert tally.lost == 0, world.logs()[-4000:]
    assert tally.again <= sum(world.kills, Counter())
    assert sum(doubtful) < orders  # else it would show nothing
    assert max(doubtful) <= WINDOW
    confirmed = "channel = 'email' AND kind = 'order_confirmation'"
    confirmations = world.count(f"notifications_notification WHERE {confirmed}")
    assert (world.count("orders_order"), confirmations) == (orders, orders)


@pytest.mark.parametrize("point", ["claim", "accepted"])
def test_a_horse_killed_in_the_middle_loses_nothing(world: World, point: str) -> None:
    world.worker(sabotage=(point, 1))
    world.place(FEW)
    check(world, orders=FEW, kills=1)
    if point == "claim":
        assert world.kills == [Counter()]


@pytest.mark.faults
@pytest.mark.parametrize("queues", [(), ("email", "default"), ("email",)])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_every_point_three_times(
    world: World, point: str, queues: tuple[str, ...]
) -> None:
    world.place(MANY)
    if queues == ("email",):
        world.worker("default")
    if point == "pop":  # that kills the worker itself: others take over, one after the other
        for _ in range(3):
            world.worker(*queues, sabotage=(point, 1)).wait(60)
        world.worker(*queues)
    else:
        world.worker(*queues, sabotage=(point, 3))
    check(world, orders=MANY, kills=3)
    if point in ("pop", "claim"):
        assert world.kills == [Counter()] * 3


@pytest.mark.faults
@pytest.mark.parametrize("point", ["claim", "accepted", "settled"])
def test_a_simple_worker_killed_is_replaced(world: World, point: str) -> None:
    world.place(FEW)
    world.worker(simple=True, sabotage=(point, 1)).wait(60)
    world.worker(simple=True)
    check(world, orders=FEW, kills=1)


def test_after_a_kill_everything_is_out_within_the_lease_and_five_seconds(world: World) -> None:
    world.inbox.delay = 0.1
    heir = world.worker()
    world.wait(lambda: clock_of(heir.pid) != 0)
    heir.send_signal(signal.SIGSTOP)  # its clock goes on: it might be in a transaction
    doomed = world.worker()
    world.place(FEW)
    world.wait(lambda: world.arrived() >= 10)
    world.kill(doomed)
    killed = time.monotonic()
    heir.send_signal(signal.SIGCONT)
    check(world, orders=FEW, kills=1)
    took = max(world.inbox.times.values()) - killed
    print(f"the last one {took:.1f} s after the kill")
    assert world.kills[0]
    assert took < LEASE + 5


@pytest.mark.parametrize("retries", [1, pytest.param(3, marks=pytest.mark.faults)])
def test_a_message_that_kills_its_worker_every_time_ends_as_a_dead_letter(
    world: World, retries: int
) -> None:
    world.variables["FAULTS_RETRIES"] = str(retries)
    world.worker(sabotage=("call", 50))
    world.place(1)
    world.wait(lambda: world.count("notifications_deadletter") >= 1, seconds=90)
    attempts = world.query(
        "SELECT n.attempts, d.code FROM notifications_deadletter d "
        "JOIN notifications_notification n ON n.id = d.notification_id"
    )
    tally = world.settle()
    print(f"\n{tally}, kills = {len(world.kills)}")
    assert attempts == [(retries + 1, "lease_lost")]
    assert len(world.kills) == retries + 1
    assert tally.lost == 0


def test_a_message_that_nobody_survives_composing_takes_no_other_along(world: World) -> None:
    world.worker("default")
    world.place(6, "--customers", "6")
    world.wait(lambda: world.count(WAITING) == 6)  # they will be composed together
    world.worker("email", sabotage=("compose", 50))
    world.wait(lambda: world.count("notifications_deadletter") >= 1, seconds=90)
    tally = world.settle()
    print(f"\n{tally}, kills = {len(world.kills)}")
    states = dict(world.query('SELECT "to", state FROM notifications_notification '
                              "WHERE channel = 'email'"))  # fmt: skip
    assert states.pop(POISON) == "dead"
    assert set(states.values()) == {"sent"}
    assert len(states) == world.arrived() == 5
    # It never left the house: all of that is one attempt.
    assert world.query("SELECT attempts FROM notifications_deadletter") == [(1,)]
    assert (tally.lost, tally.doubled) == (0, 0)


@pytest.mark.faults
def test_the_parent_killed_while_its_horse_lives(world: World) -> None:
    world.inbox.delay = 1.0
    orphaning = world.worker()
    world.place(FEW)
    world.wait(lambda: world.arrived() >= 5)
    horse = horse_of(orphaning.pid)
    orphaning.kill()  # the parent only
    orphaning.wait()
    world.worker()
    assert is_alive(horse)
    tally = world.settle()
    print(f"\n{tally}")
    assert (tally.lost, tally.doubled) == (0, 0), world.logs()[-4000:]


def test_restarting_workers_under_load_loses_and_doubles_nothing(world: World) -> None:
    rolling(world, restarts=3)


@pytest.mark.faults
def test_fifty_rolling_restarts_under_load(world: World) -> None:
    rolling(world, restarts=50)


def rolling(world: World, restarts: int) -> None:
    """Restart one worker after the other, while more is asked for than they can send."""
    world.inbox.delay = 0.4
    world.variables["EMAIL_QUEUE_CONCURRENCY"] = "2"
    workers = [world.worker(), world.worker()]
    slowest, waiting = 0.0, []
    world.place(FEW)
    with world.shopping(every=0.08):
        for _ in range(restarts):
            world.wait(lambda: all(world.sent_by(each) for each in workers))
            waiting.append(world.count(WAITING))
            slowest = max(slowest, world.stop_gently(workers.pop(0)))
            workers.append(world.worker())
        world.wait(lambda: all(world.sent_by(each) for each in workers))
    world.inbox.delay = 0.0
    tally = world.settle(120)
    least = min(world.sent_by(each) for each in world.workers)
    print(
        f"\n{tally}, restarts = {restarts}, slowest stop {slowest:.1f} s; "
        f"{min(waiting)} to {max(waiting)} mails waited at each, every worker sent {least} or more"
    )
    assert (tally.lost, tally.doubled) == (0, 0), world.logs()[-4000:]
    assert slowest < 10
    assert min(waiting) > 0
