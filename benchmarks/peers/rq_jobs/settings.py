"""Settings of the peer that puts one RQ job in Redis for each mail."""

from benchmarks.shop.settings import *  # noqa: F403
from benchmarks.shop.settings import INSTALLED_APPS, REDIS_PORT

INSTALLED_APPS = [*INSTALLED_APPS, "django_rq"]
RQ_QUEUES = {"mail": {"HOST": "127.0.0.1", "PORT": REDIS_PORT, "DB": 0}}
