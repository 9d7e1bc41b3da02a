"""Redis connections of our own: short timeouts and no retries, since nothing waits on Redis.

django-rq's settings say where Redis is (URL, host and port, Sentinel, TLS); its connections may
block a caller for seconds when Redis is away, and these must not.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import django_rq
from django.conf import settings
from django.core.signals import setting_changed
from django_rq.connection_utils import filter_connection_params
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool
from rq.connections import get_connection_kwargs

TIMEOUT = 0.5  # seconds to connect, and for an answer

# For a connection pool: do not tell Redis the client library's name. redis-py 8 reads it from the
# installed package's metadata for each connection, 3 ms that every forked process would spend.
NAMELESS: Mapping[str, None] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(AbstractConnection.__init__).parameters
    else {}
)


def quick_redis(queue: str) -> Redis:
    """This process's connection for the Redis of `queue`. Raises KeyError for an unknown queue."""
    # The process id is a key because a socket must not be shared with a forked parent.
    return _connection(_first_on_same_redis(queue), os.getpid())


def group_by_redis(queues: Iterable[str]) -> dict[Redis, list[str]]:
    """The queues on each Redis. Raises KeyError for an unknown queue."""
    grouped: dict[Redis, list[str]] = {}
    for queue in queues:
        grouped.setdefault(quick_redis(queue), []).append(queue)
    return grouped


def _first_on_same_redis(queue: str) -> str:
    """The queue whose connection all queues of one Redis share."""
    queues: Mapping[str, dict[str, Any]] = settings.RQ_QUEUES
    wanted = filter_connection_params(queues[queue])
    return next(name for name in queues if filter_connection_params(queues[name]) == wanted)


@lru_cache(maxsize=64)
def _connection(queue: str, pid: int) -> Redis:
    redis: Redis = django_rq.get_connection(queue)
    pool = redis.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        for client in (redis, *pool.sentinel_manager.sentinels):
            client.connection_pool.connection_kwargs.update(_quick())
        return redis
    # A pool of its own: with USE_REDIS_CACHE the one at hand is the cache's.
    kwargs = {**get_connection_kwargs(redis), **_quick()}
    return Redis(connection_pool=ConnectionPool(connection_class=pool.connection_class, **kwargs))


def _quick() -> dict[str, Any]:
    return {
        **NAMELESS,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        # redis-py's default retries would send a script again whose answer was lost.
        "retry": Retry(NoBackoff(), 0),
    }


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "RQ_QUEUES":
        _connection.cache_clear()


setting_changed.connect(_forget)
