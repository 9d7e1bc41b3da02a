"""Redis stopped, hung, flushed or full: orders go on, and every message goes out later."""

from __future__ import annotations

import time

import pytest

from tests.faults.cutter import Cutter
from tests.faults.world import World


def check(world: World, seconds: float = 60) -> None:
    tally = world.settle(seconds)
    print(f"\n{tally}")
    assert (tally.lost, tally.doubled) == (0, 0), world.logs()[-4000:]


@pytest.mark.parametrize("trouble", ["stopped", "hung"])
def test_orders_go_on_without_redis_and_their_mails_follow(world: World, trouble: str) -> None:
    world.worker()
    world.place(5)
    check(world)
    world.redis.stop() if trouble == "stopped" else world.redis.pause()
    world.place(50)
    assert world.count("orders_order") == 55
    world.redis.start() if trouble == "stopped" else world.redis.resume()
    back = time.monotonic()
    check(world)
    assert time.monotonic() - back < 60


@pytest.mark.faults
def test_without_redis_two_hundred_orders_take_no_longer(world: World) -> None:
    world.place(20)  # warm
    with_redis = sorted(placing_time(world) for _ in range(3))[1]
    world.redis.stop()
    without = sorted(placing_time(world) for _ in range(3))[1]
    print(f"\n200 orders: {with_redis:.3f} s with Redis, {without:.3f} s without")
    world.redis.start()
    world.worker()
    check(world, seconds=120)
    assert without <= with_redis * 1.15 + 0.05  # the machine's noise, and 50 ms


def placing_time(world: World) -> float:
    """Seconds the orders themselves took, as the command tells."""
    import json

    return float(
        json.loads(world.manage("place_orders", "--count", "200", "--json").stdout)["seconds"]
    )


@pytest.mark.parametrize(
    ("simple", "times"),
    [(False, 5), *(pytest.param(simple, 40, marks=pytest.mark.faults) for simple in (False, True))],
)
def test_lost_answers_of_redis_lose_and_double_nothing(
    world: World, simple: bool, times: int
) -> None:
    """What Redis has done is done again, by redis-py's retries or by us."""
    with Cutter(world.redis.port, {b"EXEC": times, b"EVALSHA": times}) as way:
        world.variables["REDIS_URL"] = f"redis://127.0.0.1:{way.port}/0"
        for _ in range(2):
            world.worker(simple=simple)
        with world.shopping(every=0.05):
            world.wait(lambda: way.cut.total() == 2 * times, seconds=300)
        check(world)
        print(f"lost answers: {dict(way.cut)}")


def test_a_flushed_redis_loses_nothing(world: World) -> None:
    flush(world, backlog=100)


@pytest.mark.faults
def test_a_redis_flushed_in_the_middle_of_a_backlog_of_a_thousand(world: World) -> None:
    flush(world, backlog=1000)


def flush(world: World, backlog: int) -> None:
    world.inbox.delay = 0.005
    world.worker()
    world.place(backlog)
    for _ in range(5):
        with world.redis.connect() as redis:
            redis.flushall()
        time.sleep(0.3)
    check(world, seconds=120)


@pytest.mark.faults
@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_a_full_redis_stops_nothing_for_good(world: World, policy: str) -> None:
    world.worker()
    with world.redis.connect() as redis:
        redis.config_set("maxmemory-policy", policy)
        redis.config_set("maxmemory", redis.info("memory")["used_memory"] + 200_000)
        try:
            for n in range(200):
                redis.set(f"ballast:{n}", "x" * 10_000)
        except Exception as error:
            print(type(error).__name__)
    world.place(50)
    assert world.count("orders_order") == 50
    with world.redis.connect() as redis:
        redis.config_set("maxmemory", 0)
    check(world)
