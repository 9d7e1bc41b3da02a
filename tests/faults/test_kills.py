"""kill -9 at every point: nothing is lost, and doubled is at most what was started."""

from __future__ import annotations

import time

import pytest

from tests.faults.conftest import WINDOW
from tests.faults.world import World

ORDERS = 40
LEASE = 4.0

POINTS = ["pop", "claim", "start", "call", "accepted", "settle", "settled"]


def check(world: World, kills: int, seconds: float = 60) -> None:
    tally = world.settle(seconds)
    print(f"\n{tally}, kills = {kills}")
    assert tally.lost == 0, world.logs()[-4000:]
    assert tally.doubled <= kills * WINDOW
    orders = world.count("orders_order")
    confirmed = "channel = 'email' AND kind = 'order_confirmation'"
    confirmations = world.count(f"notifications_notification WHERE {confirmed}")
    assert (orders, confirmations) == (ORDERS, ORDERS)


@pytest.mark.parametrize("point", ["claim", "accepted"])
def test_a_horse_killed_in_the_middle_loses_nothing(world: World, point: str) -> None:
    world.worker(sabotage=(point, 1))
    world.place(ORDERS)
    check(world, kills=1)


@pytest.mark.faults
@pytest.mark.parametrize("queues", [(), ("email", "default"), ("email",)])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_every_point_three_times(
    world: World, point: str, queues: tuple[str, ...]
) -> None:
    world.worker(*queues, sabotage=(point, 3))
    if queues == ("email",):
        world.worker("default")
    if point == "pop":  # that kills the worker itself: two more take over, one after the other
        world.worker(*queues)
    world.place(ORDERS)
    check(world, kills=3)


@pytest.mark.faults
@pytest.mark.parametrize("point", ["claim", "accepted", "settled"])
def test_a_simple_worker_killed_is_replaced(world: World, point: str) -> None:
    world.worker(simple=True, sabotage=(point, 1))
    world.place(ORDERS)
    time.sleep(1)
    world.worker(simple=True)
    check(world, kills=1)


def test_after_a_kill_everything_is_out_within_the_lease_and_five_seconds(world: World) -> None:
    world.inbox.delay = 0.02
    world.place(ORDERS)
    doomed = world.worker()
    world.wait(lambda: world.arrived() >= 10)
    world.kill_tree(doomed)
    killed = time.monotonic()
    world.worker()
    check(world, kills=1)
    assert time.monotonic() - killed < LEASE + 5 + 5  # and five for the new worker to start


def test_a_message_that_kills_its_worker_every_time_ends_as_a_dead_letter(world: World) -> None:
    world.place(1)
    world.worker(sabotage=("call", 50))
    world.wait(lambda: world.count("notifications_deadletter") >= 1, seconds=90)
    attempts = world.query(
        "SELECT n.attempts, d.code FROM notifications_deadletter d "
        "JOIN notifications_notification n ON n.id = d.notification_id"
    )
    assert attempts[0] == (4, "lease_lost")
    assert world.tally().lost == 0 or world.settle(60).lost == 0


@pytest.mark.faults
def test_the_parent_killed_while_its_horse_lives(world: World) -> None:
    world.inbox.delay = 0.05
    world.place(ORDERS)
    orphaning = world.worker()
    world.wait(lambda: world.arrived() >= 5)
    orphaning.kill()  # the parent only
    orphaning.wait()
    world.worker()
    check(world, kills=1)


def test_restarting_workers_under_load_loses_and_doubles_nothing(world: World) -> None:
    rolling(world, restarts=4)


@pytest.mark.faults
def test_fifty_rolling_restarts_under_load(world: World) -> None:
    rolling(world, restarts=50)


def rolling(world: World, restarts: int) -> None:
    world.inbox.delay = 0.01
    workers = [world.worker(), world.worker()]
    world.place(ORDERS)
    slowest = 0.0
    for _ in range(restarts):
        slowest = max(slowest, world.stop_gently(workers.pop(0)))
        workers.append(world.worker())
    tally = world.settle()
    print(f"\n{tally}, restarts = {restarts}, slowest stop {slowest:.1f} s")
    assert (tally.lost, tally.doubled) == (0, 0), world.logs()[-4000:]
    assert slowest < 10
