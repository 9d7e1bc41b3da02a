"""Failed jobs of the host's own, as dead letters: what RQ ran and gave up on is seen as well.

The clock looks into the failed registry of every queue, a few pages at each look. A job found there
becomes a dead `Task` whose run puts the job back into its queue: so retrying, discarding and
everything else is what it is for other dead letters. On a queue of ours our worker has refused it;
then the run says what to do instead. Nothing of a job is unpickled here.
"""

from __future__ import annotations

import logging
import re
import zlib
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import django_rq
from django.db import router, transaction
from django.db.models.functions import Now
from redis import Redis
from redis.exceptions import RedisError
from rq.job import Job
from rq.registry import FailedJobRegistry

from notifications import conf
from notifications.connections import group_by_redis
from notifications.errors import WrongState
from notifications.models import DeadLetter, State, Task
from notifications.outbox import DeadLetterDraft, Settlement, bury
from notifications.redaction import read_traceback, storable
from notifications.tasks import task

logger = logging.getLogger("notifications.hostjobs")

LOOK = 120.0  # seconds between two looks of one clock
PAGE = 500  # failed jobs that are read at once
PAGES = 4  # of one queue at one look, beside the page of those that expire last
MOST = 500  # dead letters of one queue at one look: the clock has more to do
LONGEST_ID = 170  # characters; the key of the task holds a time beside it
LONGEST_TRACEBACK = 10_000  # characters

MARK = "notifications_letter"  # in a job's hash: when the failure was that has its dead letter

# KEYS: hashes of jobs. ARGV: the mark's name, then its value for each. A hash that has gone
# meanwhile must not come back as a stub that never expires.
_MARK = """
for place, key in ipairs(KEYS) do
    if redis.call('EXISTS', key) == 1 then redis.call('HSET', key, ARGV[1], ARGV[place + 1]) end
end
"""

_cursors: dict[str, int] = {}  # by queue: where in its registry this process's next look begins


def find() -> int:
    """Make dead letters of the failed jobs that have none yet; how many."""
    found = 0
    for redis, queues in group_by_redis(conf.queue_names()).items():
        try:
            # Most often there are none at all: then one command tells.
            if redis.exists(*map(_registry, queues)):
                found += sum(_find_in(queue, redis) for queue in queues)
        except RedisError as error:
            names = ", ".join(queues)
            logger.warning("failed jobs of %s not read: %s", names, type(error).__name__)
    return found


@task(name="notifications.requeue_job", atomic=False)
def requeue_job(queue: str, job_id: str) -> None:
    """Put a failed job back into its queue. Raises WrongState when it is not failed any more, and
    for a job that has no business in its queue."""
    if conf.owns_queue(queue):
        raise WrongState(_misplaced(queue))
    registry = django_rq.get_queue(queue).failed_job_registry
    if job_id not in registry:
        raise WrongState(f"The job {job_id} is not among the failed ones of {queue} any more.")
    registry.requeue(job_id)


@dataclass(frozen=True, slots=True)
class _Failure:
    """One failure of one job."""

    job_id: str
    description: str
    at: str  # a job that was retried and failed again has ended, or at least begun, anew
    known: bool  # it bears the mark

    @property
    def key(self) -> str:
        """The same at every look."""
        return f"{self.job_id}:{self.at}"[:200]

    @property
    def hash(self) -> str:
        """Where RQ keeps the job."""
        return f"{Job.redis_job_namespace_prefix}{self.job_id}"


def _registry(queue: str) -> str:
    return FailedJobRegistry.key_template.format(queue)


def _find_in(queue: str, redis: Redis) -> int:
    found = 0
    for ids in _pages(queue, redis):
        found += _find_among(ids, queue, redis)
        if found >= MOST:
            break
    if found:
        logger.warning("%s: %s failed jobs became dead letters", queue, found)
    return found


def _pages(queue: str, redis: Redis) -> Iterator[list[str]]:
    """Ids of failed jobs: those that expire last, then on from where the last look ended.

    The first page has the latest failures, unless jobs differ in how long their failure is kept;
    the registry is not in the order of the failures, so all of it is read in turn.
    """
    key = _registry(queue)
    last = [_text(each) for each in redis.zrevrange(key, 0, PAGE - 1)]
    yield last
    if len(last) < PAGE:  # those are all
        return
    for _page in range(PAGES):
        cursor, some = redis.zscan(key, cursor=_cursors.get(queue, 0), count=PAGE)
        yield [_text(job_id) for job_id, _expires in some]
        _cursors[queue] = cursor  # now that they are done
        if not cursor:
            return


def _find_among(ids: Sequence[str], queue: str, redis: Redis) -> int:
    """Bury those of the jobs that have no dead letter yet; how many."""
    failures = {each.key: each for each in _read(ids, redis) if not each.known}
    using = router.db_for_write(Task)
    tasks = Task.objects.using(using).filter(name=requeue_job.name, key__in=failures)
    known = set(tasks.values_list("key", flat=True))
    fresh = [each for key, each in failures.items() if key not in known]
    if conf.owns_queue(queue):
        # Whoever writes into our queues is not trusted: there is nothing to read but the name.
        fresh = [each for each in fresh if not _NEEDLESS.match(each.description)]
        for each in fresh:
            name = _CALL.match(each.description)
            error = f"{_REFUSED}: {_misplaced(queue)}"
            _bury(queue, each.job_id, name[0] if name else "", error, each.key, using)
    else:
        for each in fresh:
            error = _read_error(redis, each.job_id)
            _bury(queue, each.job_id, each.description, error, each.key, using)
    _mark(failures.values(), redis)
    return len(fresh)


def _read(ids: Sequence[str], redis: Redis) -> Iterator[_Failure]:
    names = [each for each in ids if each == storable(each) and len(each) <= LONGEST_ID]
    with redis.pipeline(transaction=False) as pipeline:
        for job_id in names:
            pipeline.hmget(
                f"{Job.redis_job_namespace_prefix}{job_id}",
                "description", "ended_at", "started_at", "created_at", MARK,
            )  # fmt: skip
        hashes = pipeline.execute()
    for job_id, (description, ended, started, created, mark) in zip(names, hashes, strict=True):
        if description or ended or created:  # else its hash has expired
            at = storable(_text(ended or started or created))
            known = mark is not None and _text(mark) == at
            yield _Failure(job_id, storable(_text(description)), at, known)


def _mark(failures: Iterable[_Failure], redis: Redis) -> None:
    """Write down in Redis that these need no dead letter any more: their rows are removed one day,
    long before RQ forgets the jobs."""
    marks = {each.hash: each.at for each in failures}
    if marks:
        redis.register_script(_MARK)(keys=list(marks), args=[MARK, *marks.values()])


def _misplaced(queue: str) -> str:
    return (
        f"{queue} carries this app's own work, and no other job runs there. Enqueue it again, to a "
        "queue of its own: one of RQ_QUEUES that is no channel's and not in TASK_QUEUES. Then "
        "discard this."
    )


_REFUSED = "JobRefused"
_CALL = re.compile(r"[\w.]+(?=\()")  # what RQ describes a job by, before its arguments
_NEEDLESS = re.compile(r"notifications\.jobs\.")  # its row is due all the same


def _bury(queue: str, job_id: str, description: str, error: str, unique: str, using: str) -> None:
    name = description.partition("(")[0].strip() or "job"  # without its arguments
    trace = read_traceback(error)
    reason = trace.message or "it failed, and RQ keeps no reason"
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
        traceback = f"{trace.places}\n{reason}"[-LONGEST_TRACEBACK:] if trace.places else ""
        kind = trace.kind or (_REFUSED if error.startswith(_REFUSED) else "")
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
