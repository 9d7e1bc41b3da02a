"""The Celery app, its one task and its one call."""

import os

import django
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.shop.settings")
django.setup()

from benchmarks.shop import content, mail  # noqa: E402  (needs Django set up)

app = Celery("benchmark", broker=f"redis://127.0.0.1:{os.environ['BENCH_REDIS']}/0")
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "4")),
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@app.task(max_retries=3)
def confirm(to: str, values: dict[str, object]) -> None:
    """Send one confirmation."""
    mail.send(to, values)


def enqueue(number: int) -> None:
    """Queue the confirmation of order `number`."""
    confirm.delay(content.address(number), content.values(number))
