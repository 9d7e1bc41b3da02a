"""The host's own queues, as Redis knows them: what waits there is no row of ours."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.registry import DeferredJobRegistry, ScheduledJobRegistry, StartedJobRegistry

from notifications.connections import quick_redis

logger = logging.getLogger("notifications.hostqueues")


@dataclass(frozen=True, slots=True)
class Jobs:
    """Jobs of one queue."""

    waiting: int
    active: int
    delayed: int  # scheduled, waiting for their next attempt, or for another job


_REGISTRIES = (StartedJobRegistry, ScheduledJobRegistry, DeferredJobRegistry)


def count(queues: Collection[str]) -> dict[str, Jobs]:
    """The jobs of each of `queues`; those whose Redis does not answer are left out."""
    found: dict[str, Jobs] = {}
    away: set[Redis] = set()
    for queue in queues:
        try:
            redis = quick_redis(queue)
        except Exception as error:  # django-rq knows no such kind of Redis: see the check E009
            logger.debug("jobs of %s not counted: %s", queue, type(error).__name__)
            continue
        if redis in away:  # it is waited for once, not for each queue
            continue
        try:
            found[queue] = _count(queue, redis)
        except RedisError as error:
            away.add(redis)
            logger.debug("jobs of %s not counted: %s", queue, type(error).__name__)
    return found


def _count(queue: str, redis: Redis) -> Jobs:
    waiting_key = f"{Queue.redis_queue_namespace_prefix}{queue}"
    others = [each.key_template.format(queue) for each in _REGISTRIES]
    if not redis.exists(waiting_key, *others):  # most often: then one command tells
        return Jobs(0, 0, 0)
    with redis.pipeline(transaction=False) as pipeline:
        pipeline.llen(waiting_key)
        for key in others:
            pipeline.zcard(key)
        waiting, active, scheduled, deferred = pipeline.execute()
    return Jobs(waiting, active, scheduled + deferred)
