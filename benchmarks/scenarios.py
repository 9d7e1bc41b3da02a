"""What is measured. Each scenario gives the measurements of one round of one system."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.measurements import Delivery, Figure
from benchmarks.sinks import PATIENCE, Sink
from benchmarks.systems import System, Variant

ORDERS = 1_000  # with and as many without a mail, to compare their transactions
LATENCY = 0.05  # seconds the patient mail server takes to accept a mail


def throughput(system: System, count: int, round_: int) -> Iterator[Delivery]:
    """Deliver `count` mails as fast as possible, in each way."""
    for variant in system.variants():
        yield deliver(system, variant, count, scenario="throughput", round_=round_)


def latency(system: System, count: int, round_: int) -> Iterator[Delivery]:
    """The same with a mail server that takes 50 ms, and 100 mails at once."""
    for variant in system.patient_variants():
        yield deliver(system, variant, count, scenario="latency", round_=round_, delay=LATENCY)


def enqueue(system: System, count: int, round_: int) -> Iterator[Figure]:
    """What queueing a mail adds to an order's own transaction."""
    system.surroundings.empty(system.template)
    for call, microseconds in system.added_to_an_order(min(count, ORDERS)).items():
        name = f"{call} in an order's transaction".strip()
        yield Figure("enqueue", system.name, system.label, name, "µs", round_, microseconds)


def deliver(
    system: System,
    variant: Variant,
    count: int,
    *,
    scenario: str,
    round_: int,
    delay: float = 0.0,
) -> Delivery:
    """Queue the mails, start the workers, and look at them from the first tenth to the end.

    Raises RuntimeError when mails do not come in.
    """
    count = min(count, variant.most)
    with Sink(delay=delay) as sink:
        system.surroundings.sink = sink
        system.surroundings.empty(system.template)
        system.fill(count)
        enqueue_us = system.enqueue(count, variant)
        workers = system.start(variant)
        try:
            already = sink.wait_for(count // 10, check=workers.check)
            began, cpu = time.perf_counter(), workers.cpu_seconds()
            memory = []
            for share in (0.5, 0.9):
                sink.wait_for(int(count * share), check=workers.check)
                memory.append(workers.memory())
            sink.wait_for(count, check=workers.check)
            _wait_until_settled(system)
            seconds, cpu = time.perf_counter() - began, workers.cpu_seconds() - cpu
        finally:
            workers.stop()
            system.surroundings.sink = None
        received = sink.received()
    return Delivery(
        scenario=scenario,
        system=system.name,
        label=system.label,
        keeps_on_disk=system.keeps_on_disk,
        variant=variant.name,
        cores=variant.cores,
        round=round_,
        mails=count,
        enqueue_us=enqueue_us,
        rate=(count - already) / seconds,
        cpu_ms=cpu * 1000 / (count - already),
        pss_mb=max(each.pss_mb for each in memory),
        rss_mb=max(each.rss_mb for each in memory),
        doubled=received - count,
    )


def _wait_until_settled(system: System) -> None:
    deadline = time.monotonic() + PATIENCE
    while pending := system.pending():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{system.label}: all mails are in, but {pending} are not settled.")
        time.sleep(0.005)
