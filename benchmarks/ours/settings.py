"""Settings of this project's own app: as any shop would have them, and no limit of its rate."""

import os

from benchmarks.shop.settings import *  # noqa: F403
from benchmarks.shop.settings import INSTALLED_APPS, REDIS_PORT

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    *INSTALLED_APPS,
    "notifications",
    "django_rq",
    "benchmarks.ours",
]
RQ_QUEUES = {
    name: {"HOST": "127.0.0.1", "PORT": REDIS_PORT, "DB": 0} for name in ("default", "email")
}
RQ_SHOW_ADMIN_LINK = False
RQ = {"WORKER_CLASS": "notifications.worker.Worker"}
NOTIFICATIONS = {
    "ENVIRONMENT": "production",
    "CHANNELS": {
        "email": {
            "RATE": "",
            "CONCURRENCY": int(os.environ.get("BENCH_CONCURRENCY", "5")),
        },
    },
}
