"""Redis stopped, hung, flushed or full: orders go on, and every message goes out later."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial

import pytest

from tests.faults.comparison import Added
from tests.faults.cutter import Cutter
from tests.faults.shopper import Shopper
from tests.faults.storefront import Storefront
from tests.faults.world import World
from tests.servers import RedisServer

ADDED = 0.05  # seconds that 200 orders may take longer
WAIT = 0.45  # seconds, less than anybody here waits for a Redis that hangs


def check(world: World, seconds: float = 60) -> None:
    tally = world.settle(seconds)
    print(f"\n{tally}")
    assert (tally.lost, tally.doubled) == (0, 0), world.logs()[-4000:]


def begin(world: World, trouble: str) -> None:
    world.redis.stop() if trouble == "stopped" else world.redis.pause()


def end(world: World, trouble: str) -> None:
    world.redis.start() if trouble == "stopped" else world.redis.resume()


@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.faults)])
def test_orders_go_on_without_redis_and_their_mails_follow(world: World, count: int) -> None:
    """Of two storefronts one has lost its Redis, and so has the worker."""
    world.worker()
    with (
        RedisServer() as elsewhere,
        Storefront(world, REDIS_URL=elsewhere.url) as untroubled,
        Storefront(world) as troubled,
    ):
        for name, storefront in (("ada", untroubled), ("eva", troubled)):
            storefront.sign_up(name)
            storefront.check_out()
        check(world)
        for trouble in ("stopped", "hung"):
            begin(world, trouble)
            added = Added.measure(
                untroubled.check_out, troubled.check_out, pairs=count, times=count
            )
            slowest, usual = (max(each.checkouts[-count:]) for each in (troubled, untroubled))
            end(world, trouble)
            back = time.monotonic()
            check(world)
            last = max(world.inbox.times.values()) - back
            print(f"{count} checkouts without Redis ({trouble}): {added}; the slowest "
                  f"{slowest:.3f} s, with Redis {usual:.3f} s; the last mail {last:.1f} s after "
                  "its return")  # fmt: skip
            assert slowest < usual + WAIT
            assert count < 200 or added.least <= ADDED  # fewer cannot tell
            assert last < 60
    assert world.count("orders_order") == 2 + 2 * 2 * count


@pytest.mark.faults
@pytest.mark.parametrize("trouble", ["stopped", "hung"])
def test_without_redis_two_hundred_orders_take_no_longer(world: World, trouble: str) -> None:
    with RedisServer() as elsewhere, ExitStack() as shoppers:
        untroubled, troubled = (
            Shopper({**world.environment, "REDIS_URL": url}, world.folder / f"shopper{n}.log")
            for n, url in enumerate((elsewhere.url, world.redis.url))
        )
        for shopper in (untroubled, troubled):
            shoppers.callback(shopper.stop)
            shopper.place(20)  # warm
        begin(world, trouble)
        added = Added.measure(
            partial(untroubled.place, 10), partial(troubled.place, 10), pairs=40, times=20
        )
        end(world, trouble)
        world.worker()
        check(world, seconds=300)
        begin(world, trouble)
        troubled.place(200)
        end(world, trouble)
        back = time.monotonic()
        check(world)
        last = max(world.inbox.times.values()) - back
    print(f"200 orders without Redis ({trouble}): {added}; the last mail {last:.1f} s after its "
          "return")  # fmt: skip
    assert world.count("orders_order") == 40 + 2 * 400 + 200
    assert added.least <= ADDED
    assert last < 60


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
