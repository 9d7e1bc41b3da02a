"""Rate limits that all workers share, as tokens in Redis (pyrate-limiter's GCRA).

Tokens are taken before rows are claimed, so that a row never waits for a token under its lease.
The time is Redis's own: machines with skewed clocks share one limit.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from pyrate_limiter import Rate as Policy
from pyrate_limiter.abstracts.algorithm import GCRA, Decision, State
from pyrate_limiter.buckets.redis_state import RedisStateStore
from pyrate_limiter.buckets.state_bucket import InMemoryStateStore
from redis.exceptions import RedisError

from notifications.conf import Rate
from notifications.connections import quick_redis

logger = logging.getLogger("notifications.rates")

Store: TypeAlias = RedisStateStore | InMemoryStateStore

_GCRA = GCRA()


@dataclass(frozen=True, slots=True)
class Grant:
    """Tokens taken, and the seconds until the next one if there were none."""

    tokens: int
    wait: float = 0.0


def take(queue: str, rate: Rate | None, wanted: int, *, shared: bool = True) -> Grant:
    """Take up to `wanted` tokens of `queue`'s rate, without waiting.

    With `shared` they are Redis's, for all workers; else this process's own (for delivery without
    Redis). While Redis is away there are none.
    """
    if rate is None:
        return Grant(wanted)
    policy = [Policy(rate.limit, rate.seconds * 1000, burst=_burst(rate))]
    try:
        if shared:
            seconds, micros = quick_redis(queue).time()
            now = seconds * 1000 + micros // 1000
            store: Store = _shared_store(queue, os.getpid())
        else:
            now = time.monotonic_ns() // 1_000_000
            store = _local_store(queue)
        free = policy[0].burst - _GCRA.consumed(policy, _state(store, policy), now)
        tokens = max(1, min(wanted, free))
        decision = _check(store, policy, now, tokens)
        if not decision.allowed and tokens > 1:  # another worker was quicker
            tokens, decision = 1, _check(store, policy, now, 1)
    except RedisError as error:
        logger.warning("no rate tokens for %s: Redis: %s", queue, type(error).__name__)
        return Grant(0, wait=1.0)
    if decision.allowed:
        return Grant(tokens)
    return Grant(0, wait=(decision.retry_after_ms or 100) / 1000)


def _state(store: Store, policy: list[Policy]) -> State:
    state: State = store.read(_GCRA, policy)  # type: ignore[no-untyped-call]
    return state


def _check(store: Store, policy: list[Policy], now: int, tokens: int) -> Decision:
    decision: Decision = store.check(_GCRA, policy, now, tokens)  # type: ignore[no-untyped-call]
    return decision


def _burst(rate: Rate) -> int:
    """Tokens that may be spent at once: a tenth of a second's worth.

    Two at least: a worker that comes a little late for a token then makes up for it, and within
    any second there is still only one more than the limit.
    """
    return max(2, rate.limit // rate.seconds // 10)


@lru_cache(maxsize=64)
def _shared_store(queue: str, pid: int) -> RedisStateStore:
    return RedisStateStore(quick_redis(queue), f"notifications:rate:{queue}")


@lru_cache(maxsize=64)
def _local_store(queue: str) -> InMemoryStateStore:
    return InMemoryStateStore()
