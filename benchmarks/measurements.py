"""What was measured: plain values, and the medians over rounds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import ClassVar, TypeVar


@dataclass(frozen=True, slots=True)
class Delivery:
    """One run of one variant of a system."""

    measured: ClassVar = ("enqueue_us", "rate", "cpu_ms", "pss_mb", "rss_mb", "doubled")

    scenario: str
    system: str
    label: str
    keeps_on_disk: bool
    variant: str
    cores: int
    round: int
    mails: int
    enqueue_us: float  # one call, the median
    rate: float  # mails a second, from the first tenth until all are in and settled
    cpu_ms: float  # of the workers, for each mail
    pss_mb: float  # of the workers together, at most; shared pages counted once
    rss_mb: float  # the same; shared pages counted in each process
    doubled: int  # mails that came in more than once


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of one system, where no more is to be told."""

    measured: ClassVar = ("value",)

    scenario: str
    system: str
    label: str
    name: str
    unit: str
    round: int
    value: float


M = TypeVar("M", Delivery, Figure)


def medians(measurements: Iterable[M]) -> list[M]:
    """One for each group that differs only in its round (then 0), with the medians of its numbers.

    In the order of their first appearance.
    """
    groups: dict[tuple[object, ...], list[M]] = {}
    for each in measurements:
        fixed = {k: v for k, v in asdict(each).items() if k not in {"round", *each.measured}}
        groups.setdefault(tuple(fixed.items()), []).append(each)
    return [_median(group) for group in groups.values()]


def _median(group: list[M]) -> M:
    first = group[0]
    middle = {
        name: statistics.median(getattr(each, name) for each in group) for name in first.measured
    }
    return type(first)(**{**asdict(first), "round": 0, **middle})
