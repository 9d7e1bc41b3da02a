"""One RQ job for each mail."""

import os

import django_rq
from rq import Retry

from benchmarks.shop import content, mail

_queue = django_rq.get_queue("mail")  # looked up once: it costs 0.9 ms
_RETRY = Retry(max=3, interval=[2, 4, 8])
_KEEP_OPEN = os.environ.get("BENCH_FORKS") != "1"  # a forked process ends with its job


def confirm(to: str, values: dict[str, object]) -> None:
    """Send one confirmation."""
    mail.send(to, values, keep_open=_KEEP_OPEN)


def enqueue(number: int) -> None:
    """Queue the confirmation of order `number`."""
    _queue.enqueue(
        confirm, content.address(number), content.values(number), result_ttl=0, retry=_RETRY
    )
