"""What the commands that start workers share."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django_rq.connection_utils import filter_connection_params
from django_rq.workers import get_worker_class
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq.logutils import setup_loghandlers
from rq.worker import BaseWorker

from notifications import conf
from notifications.connections import quick_redis
from notifications.worker import Worker, guard

logger = logging.getLogger("notifications.worker")

PAUSE = 2.0  # seconds between tries to reach Redis


def prepare(
    command: BaseCommand, names: Sequence[str], options: Mapping[str, Any]
) -> tuple[list[str], type[BaseWorker]]:
    """The queues to serve, in order, and the worker class; both as the options say, or ours.

    Waits for Redis, unless the worker is to do one burst only. Raises CommandError: 2 for an
    unknown queue, 1 for a Redis that RQ cannot work on.
    """
    level = {0: logging.WARNING, 1: logging.INFO}.get(options["verbosity"], logging.DEBUG)
    setup_loghandlers(level, name="notifications")
    queues = list(names) or _queues_of_one_redis(command)
    unknown = [name for name in queues if name not in conf.queue_names()]
    if unknown:
        raise CommandError(
            f"Not in RQ_QUEUES: {', '.join(unknown)}. There are: {', '.join(conf.queue_names())}.",
            returncode=2,
        )
    _wait_for_redis(queues[0], patient=not options["burst"])
    return queues, _worker_class(options["worker_class"])


def _queues_of_one_redis(command: BaseCommand) -> list[str]:
    """All queues of RQ_QUEUES that live where the first one does; a worker has one connection."""
    if not conf.queue_names():
        raise CommandError("RQ_QUEUES is empty: there is nothing to serve.")
    place = {name: _place(name) for name in conf.queue_names()}
    first = next(iter(place.values()))
    elsewhere = [name for name in place if place[name] != first]
    if elsewhere:
        command.stderr.write(
            f"Not served here, since they are in another Redis: {', '.join(elsewhere)}. "
            f"Start another worker for them: rqworker {' '.join(elsewhere)}"
        )
    return [name for name in place if place[name] == first]


def _place(queue: str) -> Any:
    return filter_connection_params(settings.RQ_QUEUES[queue])


def _wait_for_redis(queue: str, *, patient: bool) -> None:
    while True:
        try:
            redis = quick_redis(queue)
            if redis.info("cluster").get("cluster_enabled"):
                raise CommandError(
                    "This Redis is a cluster. RQ keeps a job in several keys, which a cluster "
                    "spreads over its nodes: use a single Redis, or Sentinel."
                )
        except (RedisConnectionError, RedisTimeoutError) as error:
            if not patient:
                raise CommandError(f"Redis does not answer: {error}") from error
            logger.error("Redis does not answer: %s; trying again", error)
            time.sleep(PAUSE)
        except RedisError:
            return  # it answers, and hides its INFO
        else:
            return


def _worker_class(chosen: str | None) -> type[BaseWorker]:
    if chosen is None and not getattr(settings, "RQ", {}).get("WORKER_CLASS"):
        return Worker
    return guard(get_worker_class(chosen))  # type: ignore[no-untyped-call]
