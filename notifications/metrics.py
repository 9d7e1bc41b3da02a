"""Figures in the text format of Prometheus, made when they are asked for.

From `statistics`: bounded counts and small rows, so that a scrape costs the same however big the
tables are. The format is "Text-based format" on
https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta

from django.db.models import Sum
from django.db.models.functions import Now

from notifications import health, statistics
from notifications.models import Tally
from notifications.tallies import KEPT

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]


def render() -> str:
    """All figures."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    queues = statistics.all_queue_stats()
    for what, text in (
        ("waiting", "Due rows; 10000 means or more."),
        ("active", "Rows that a worker has claimed."),
        ("delayed", "Rows that are due later; 10000 means or more."),
        ("dlq", "Dead letters that wait for a person; 10000 means or more."),
    ):
        samples = [({"queue": each.queue}, float(getattr(each, what))) for each in queues]
        yield from _family(f"notifications_{what}", "gauge", text, samples)
    oldest = [({"queue": each.queue}, each.oldest or 0.0) for each in queues]
    yield from _family(
        "notifications_oldest_seconds", "gauge", "How long the oldest due row waits.", oldest
    )
    paused = [({"queue": each.queue}, float(bool(each.paused))) for each in queues]
    yield from _family("notifications_paused", "gauge", "1 while nothing is claimed.", paused)
    yield from _outcomes()
    found = health.examine()
    levels = [({"status": str(level)}, float(found.level is level)) for level in health.Level]
    yield from _family("notifications_health", "gauge", "1 for the status that it is.", levels)


def _outcomes() -> Iterator[str]:
    """What happened since the oldest tally: it falls once a day, which Prometheus takes for a
    restart of the counter."""
    groups = list(
        Tally.objects.filter(since__gte=Now() - (KEPT - timedelta(days=1)))
        .values("queue", "name", "provider", "what")
        .annotate(number=Sum("count"), took=Sum("milliseconds"))
        .order_by("queue", "name", "provider", "what")
    )
    labels = [
        {"queue": each["queue"], "kind": each["name"], "provider": each["provider"],
         "outcome": each["what"]}
        for each in groups
    ]  # fmt: skip
    counts = [(label, float(each["number"])) for label, each in zip(labels, groups, strict=True)]
    times = [
        (label, each["took"] / 1000)
        for label, each in zip(labels, groups, strict=True)
        if each["took"]
    ]
    text = "Attempts by outcome, receipts by fate, and rows that were given up."
    yield from _family("notifications_outcomes_total", "counter", text, counts)
    yield from _family(
        "notifications_attempt_seconds_total", "counter", "Time that attempts took.", times
    )


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escape(each)}"' for key, each in labels.items())
        yield f"{name}{{{inside}}} {value:g}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
