"""Failed jobs of the host's own, as dead letters: what RQ ran and gave up on is seen as well.

The clock looks into the failed registry of every queue that is not this app's. A job found there
becomes a dead `Task` whose run puts the job back into its queue: so retrying, discarding and
everything else is what it is for other dead letters. Nothing of a job is unpickled here.
"""

from __future__ import annotations

import logging
import zlib
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Any

import django_rq
from django.db import router, transaction
from django.db.models.functions import Now
from redis import Redis
from redis.exceptions import RedisError
from rq.job import Job
from rq.registry import FailedJobRegistry

from notifications import conf
from notifications.connections import quick_redis
from notifications.errors import WrongState
from notifications.models import DeadLetter, State, Task
from notifications.outbox import DeadLetterDraft, Settlement, bury
from notifications.redaction import scrub
from notifications.tasks import task

logger = logging.getLogger("notifications.hostjobs")

LOOK = 30.0  # seconds between two looks of one clock
MOST = 500  # failed jobs of one queue that are looked at, the newest ones
LONGEST_TRACEBACK = 10_000  # characters


def find() -> int:
    """Make dead letters of the failed jobs that have none yet; how many."""
    found = 0
    for queue in conf.queue_names():
        if not conf.owns_queue(queue):
            try:
                found += _find_in(queue, quick_redis(queue))
            except RedisError as error:
                logger.warning("failed jobs of %s not read: %s", queue, type(error).__name__)
    return found


@task(name="notifications.requeue_job", atomic=False)
def requeue_job(queue: str, job_id: str) -> None:
    """Put a failed job back into its queue. Raises WrongState when it is not failed any more."""
    registry = django_rq.get_queue(queue).failed_job_registry
    if job_id not in registry:
        raise WrongState(f"The job {job_id} is not among the failed ones of {queue} any more.")
    registry.requeue(job_id)


def _find_in(queue: str, redis: Redis) -> int:
    key = FailedJobRegistry.key_template.format(queue)
    ids = [_text(each) for each in redis.zrevrange(key, 0, MOST - 1)]
    with redis.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hmget(
                f"{Job.redis_job_namespace_prefix}{job_id}", "description", "ended_at", "created_at"
            )
        hashes = pipeline.execute()
    # A job that was retried and failed again has ended anew.
    fresh = {
        f"{job_id}:{_text(ended or created)}"[:200]: (job_id, _text(description))
        for job_id, (description, ended, created) in zip(ids, hashes, strict=True)
        if description or ended or created  # else its hash has expired
    }
    using = router.db_for_write(Task)
    tasks = Task.objects.using(using).filter(name=requeue_job.name)
    for known in tasks.filter(key__in=fresh).values_list("key", flat=True):
        fresh.pop(str(known))
    for unique, (job_id, description) in fresh.items():
        _bury(queue, job_id, description, _read_error(redis, job_id), unique, using)
    if fresh:
        logger.warning("%s: %s failed jobs became dead letters", queue, len(fresh))
    return len(fresh)


def _bury(queue: str, job_id: str, description: str, error: str, unique: str, using: str) -> None:
    name = description.partition("(")[0].strip() or "job"  # without its arguments
    *frames, last = error.strip().splitlines() or [""]
    kind = last.partition(":")[0].strip()[:200] if error else ""
    reason = scrub(last) or "it failed, and RQ keeps no reason"
    with transaction.atomic(using=using):
        row = Task(
            name=requeue_job.name,
            queue=requeue_job.queue,
            payload={"queue": queue, "job_id": job_id},
            state=State.DEAD,
            key=unique,
            reason=reason,
            settled_at=Now(),
        )
        Task.objects.using(using).bulk_create([row], ignore_conflicts=True)
        saved = Task.objects.using(using).get(name=row.name, key=unique)
        traceback = "\n".join([*frames, reason])[-LONGEST_TRACEBACK:] if frames else ""
        draft = DeadLetterDraft(reason, kind, "", traceback)
        letter = bury(Settlement(saved, State.DEAD, counted=True), draft)
        letter.queue, letter.name = queue, name[:200]
        DeadLetter.objects.using(using).bulk_create([letter], ignore_conflicts=True)


def _read_error(redis: Redis, job_id: str) -> str:
    """The stack trace that RQ keeps with the job's last result; empty if it has none."""
    entries: list[tuple[Any, Mapping[bytes, bytes]]] = redis.xrevrange(
        f"rq:results:{job_id}", count=1
    )  # type: ignore[assignment]
    for _id, fields in entries:
        try:
            return zlib.decompress(b64decode(fields.get(b"exc_string", b""))).decode(
                errors="replace"
            )
        except (Base64Error, zlib.error):
            return ""
    return ""


def _text(raw: Any) -> str:
    return (raw or b"").decode(errors="replace")
