"""Figures for Prometheus, made when they are asked for.

From `statistics`: bounded counts and small rows, so that a scrape costs the same however big the
tables are. django-rq's own figures, of the host's jobs too, stand beside them while Redis answers.
"""

# mypy: allow-untyped-calls
# (django-rq's collector has no types)

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django_rq.contrib.prometheus import RQCollector
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from notifications import health, statistics
from notifications.connections import quick_redis
from notifications.models import Total

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

QUEUE_FIGURES = {
    "waiting": "Due rows; 10000 means or more.",
    "active": "Rows that a worker has claimed.",
    "delayed": "Rows that are due later; 10000 means or more.",
    "dlq": "Dead letters that wait for a person; 10000 means or more.",
    "oldest_seconds": "How long the oldest due row waits.",
    "paused": "1 while nothing is claimed.",
}


def render() -> bytes:
    """All figures, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Collector())
    return generate_latest(registry)


class _Collector(Collector):
    def describe(self) -> list[Metric]:
        return []  # nothing is asked of the database before there is a scrape

    def collect(self) -> Iterator[Metric]:
        yield from _of_queues()
        yield from _of_outcomes()
        yield from _of_health()
        yield from _of_redis()


def _of_queues() -> Iterator[Metric]:
    queues = statistics.all_queue_stats()
    for name, text in QUEUE_FIGURES.items():
        family = GaugeMetricFamily(f"notifications_{name}", text, labels=["queue"])
        for each in queues:
            if not each.ours and name != "dlq":  # RQ's own figures tell of its jobs
                continue
            value = (each.oldest or 0.0) if name == "oldest_seconds" else getattr(each, name)
            family.add_metric([each.queue], float(bool(value) if name == "paused" else value))
        yield family


def _of_outcomes() -> Iterator[Metric]:
    """What ever happened, as far as it is counted; a few seconds behind."""
    labels = ["queue", "kind", "provider", "outcome"]
    counts = CounterMetricFamily(
        "notifications_outcomes",
        "Attempts by outcome, receipts by fate, and rows that were given up.",
        labels=labels,
    )
    times = CounterMetricFamily(
        "notifications_attempt_seconds", "Time that attempts took.", labels=labels
    )
    columns = ("queue", "name", "provider", "what")
    for each in Total.objects.order_by(*columns).values(*columns, "count", "milliseconds"):
        values = [each[column] for column in columns]
        counts.add_metric(values, each["count"])
        if each["milliseconds"]:
            times.add_metric(values, each["milliseconds"] / 1000)
    yield counts
    yield times


def _of_health() -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "notifications_health", "1 for the status that it is.", labels=["status"]
    )
    found = health.examine()
    for level in health.Level:
        family.add_metric([str(level)], float(found.level is level))
    yield family


def _of_redis() -> Iterator[Metric]:
    family = GaugeMetricFamily("notifications_redis_up", "1 while Redis answers.")
    theirs: list[Any] = []
    try:
        # Asked first with a short timeout: RQ's own connections may wait for ever.
        for queue in settings.RQ_QUEUES:
            quick_redis(queue).ping()
        theirs = list(RQCollector().collect())
        family.add_metric([], 1.0)
    except RedisError:
        family.add_metric([], 0.0)
    yield family
    yield from theirs
