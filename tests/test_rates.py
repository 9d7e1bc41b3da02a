"""Rate limits shared by all workers, in a real Redis and without one."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from notifications import rates
from notifications.conf import Rate
from tests.servers import RedisServer


def test_without_a_rate_everything_is_granted() -> None:
    assert rates.take("email", None, 500) == rates.Grant(500)


@pytest.mark.parametrize("shared", [True, False])
def test_tokens_come_one_by_one_and_who_is_late_for_one_gets_the_next_sooner(
    redis: Redis, shared: bool
) -> None:
    queue = "email" if shared else f"local-{time.monotonic_ns()}"
    slow = Rate(5, 1)
    assert rates.take(queue, slow, 50, shared=shared).tokens == 1
    refused = rates.take(queue, slow, 50, shared=shared)
    assert refused.tokens == 0
    assert 0 < refused.wait <= 0.102  # half an interval
    time.sleep(refused.wait)
    assert rates.take(queue, slow, 50, shared=shared).tokens == 1
    assert 0.1 < rates.take(queue, slow, 50, shared=shared).wait <= 0.203


def test_a_fast_rate_grants_a_tenth_of_a_second_at_once(redis: Redis) -> None:
    assert rates.take("email", Rate(1000, 1), 500).tokens == 100
    assert rates.take("default", Rate(1000, 1), 30).tokens == 30


def test_workers_together_keep_to_the_rate(redis: Redis) -> None:
    limit = Rate(50, 1)
    until = time.monotonic() + 2.0

    def work(_worker: int) -> int:
        taken = 0
        while time.monotonic() < until:
            grant = rates.take("email", limit, 10)
            taken += grant.tokens
            time.sleep(grant.wait or 0.001)
        return taken

    with ThreadPoolExecutor(3) as workers:
        taken = sum(workers.map(work, range(3)))
    assert 85 <= taken <= 107  # 2 s at 50/s and one burst of 5; a busy machine takes fewer


def test_two_queues_have_limits_of_their_own(redis: Redis) -> None:
    assert rates.take("email", Rate(1, 1), 1).tokens == 1
    assert rates.take("default", Rate(1, 1), 1).tokens == 1


def test_while_redis_is_away_there_are_no_tokens(redis_server: RedisServer) -> None:
    redis_server.stop()
    grant = rates.take("email", Rate(10, 1), 5)
    assert (grant.tokens, grant.wait) == (0, 1.0)
    redis_server.start()
    assert rates.take("email", Rate(10, 1), 1).tokens == 1
