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

PARTS = 10  # of a token: so much finer a burst can be told
# What a burst at the start is ahead, this makes up for: over half a minute the limit is kept, too.
SLOWER = 1.01

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
    policy = [
        Policy(rate.limit * PARTS, int(rate.seconds * 1000 * SLOWER), burst=_burst_parts(rate))
    ]
    try:
        if shared:
            seconds, micros = quick_redis(queue).time()
            now = seconds * 1000 + micros // 1000
            store: Store = _shared_store(queue, os.getpid())
        else:
            now = time.monotonic_ns() // 1_000_000
            store = _local_store(queue)
        free = policy[0].burst - _GCRA.consumed(policy, _state(store, policy), now)
        tokens = max(1, min(wanted, free // PARTS))
        decision = _check(store, policy, now, tokens)
        if not decision.allowed and tokens > 1:  # another worker was quicker
            tokens, decision = 1, _check(store, policy, now, 1)
    except RedisError as error:
        logger.warning("no rate tokens for %s: Redis: %s", queue, type(error).__name__)
        return Grant(0, wait=1.0)
    if decision.allowed:
        return Grant(tokens)
    return Grant(0, wait=(decision.retry_after_ms or 100) / 1000)


def at_once(rate: Rate) -> int:
    """Messages that may go out together, however many tokens were saved: a tenth of a second's."""
    return max(1, rate.limit // rate.seconds // 10)


def _state(store: Store, policy: list[Policy]) -> State:
    state: State = store.read(_GCRA, policy)  # type: ignore[no-untyped-call]
    return state


def _check(store: Store, policy: list[Policy], now: int, tokens: int) -> Decision:
    parts = tokens * PARTS
    decision: Decision = store.check(_GCRA, policy, now, parts)  # type: ignore[no-untyped-call]
    return decision


def _burst_parts(rate: Rate) -> int:
    """Parts of tokens that may be spent at once: a tenth of a second's worth.

    One and a half tokens at least. A worker that comes a little late for a token then makes up for
    it, and yet within any second there is only one more than the limit, also for the provider,
    which some messages reach sooner after their token than others.
    """
    return max(3 * PARTS // 2, PARTS * at_once(rate))


@lru_cache(maxsize=64)
def _shared_store(queue: str, pid: int) -> RedisStateStore:
    return RedisStateStore(quick_redis(queue), f"notifications:rate:{queue}")


@lru_cache(maxsize=64)
def _local_store(queue: str) -> InMemoryStateStore:
    return InMemoryStateStore()
