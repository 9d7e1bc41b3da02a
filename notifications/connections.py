"""Redis connections of our own: short timeouts and no retries, since nothing waits on Redis.

django-rq's settings say where Redis is (URL, host and port, Sentinel, TLS); its connections may
block a caller for seconds when Redis is away, and these must not.
"""

from __future__ import annotations

import os
from functools import lru_cache

import django_rq
from django.core.signals import setting_changed
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT = 0.5  # seconds to connect, and for an answer


def quick_redis(queue: str) -> Redis:
    """This process's connection for the Redis of `queue`."""
    return _connection(queue, os.getpid())


@lru_cache(maxsize=64)
def _connection(queue: str, pid: int) -> Redis:
    # The process id is a key because a socket must not be shared with a forked parent.
    redis: Redis = django_rq.get_connection(queue)
    redis.connection_pool.connection_kwargs.update(
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        # redis-py's default retries would send a script again whose answer was lost.
        retry=Retry(NoBackoff(), 0),
    )
    return redis


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "RQ_QUEUES":
        _connection.cache_clear()


setting_changed.connect(_forget)
