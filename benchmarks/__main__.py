"""Measure this project beside its peers, in one run, round by round.

    python -m benchmarks
    python -m benchmarks --systems bullmq,ours_values --count 1000 --rounds 1
    python -m benchmarks --scenario latency

Needed: Node 20 and npm for BullMQ, Postfix's smtp-sink. Redis and PostgreSQL are started here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import scenarios, tables
from benchmarks.measurements import Delivery, Figure, medians
from benchmarks.ours import scenarios as alone
from benchmarks.ours.system import OursDatabase, OursValues
from benchmarks.peers.bullmq.system import BullMQ
from benchmarks.peers.celery.system import Celery
from benchmarks.peers.post_office.system import PostOffice
from benchmarks.peers.rq_jobs.system import RQJobs
from benchmarks.surroundings import Surroundings, provide_surroundings
from benchmarks.systems import System

SYSTEMS: dict[str, type[System]] = {
    each.name: each for each in (BullMQ, OursValues, OursDatabase, PostOffice, Celery, RQJobs)
}
BUSY = 0.5  # load average above which something else runs
RESULTS = Path(__file__).with_name("results")

Scenario = Callable[[System, int, int], Iterator[Delivery] | Iterator[Figure]]
SCENARIOS: dict[str, Scenario] = {
    "throughput": scenarios.throughput,
    "latency": scenarios.latency,
    "enqueue": scenarios.enqueue,
    "backlog": alone.backlog,
    "hop": alone.hop,
    "checkout": alone.checkout,
}
ALONE = {"backlog", "hop", "checkout"}  # of this project only


def main() -> None:
    """Run as a command."""
    options = read_options()
    load = os.getloadavg()[0]
    if load > BUSY:
        print(f"Others use this machine (load {load:.1f}): figures will be wrong.", file=sys.stderr)
    with provide_surroundings(options.postgres) as surroundings:
        systems = [SYSTEMS[name](surroundings) for name in options.systems]
        for system in systems:
            system.install()
            system.prepare()
        for name in options.scenario:
            able = [each for each in systems if each.name == OursValues.name or name not in ALONE]
            measured = measure(SCENARIOS[name], able, options.count, options.rounds)
            report(name, measured, describe(surroundings, options, load))


def read_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--systems", type=_names_of(SYSTEMS), default=list(SYSTEMS), help="separated by commas"
    )
    parser.add_argument(
        "--scenario",
        type=_names_of(SCENARIOS),
        default=["throughput", "enqueue"],
        help=f"some of {', '.join(SCENARIOS)}, separated by commas",
    )
    parser.add_argument("--count", type=int, default=5_000, help="mails in one run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", type=int, default=0, help="major version; default: any")
    return parser.parse_args()


def measure(
    scenario: Scenario, systems: Sequence[System], count: int, rounds: int
) -> list[Delivery | Figure]:
    """Every system in turn, as many times as there are rounds: what disturbs one disturbs all."""
    measured: list[Delivery | Figure] = []
    for number in range(1, rounds + 1):
        for system in systems:
            for each in scenario(system, count, number):
                print(_line(each), file=sys.stderr, flush=True)
                measured.append(each)
    return measured


def describe(surroundings: Surroundings, options: argparse.Namespace, load: float) -> str:
    """Where and how it was measured, in one line."""
    with surroundings.connect_postgres("postgres") as connection:
        postgres = connection.info.server_version // 10_000
    with surroundings.connect_redis() as redis:
        version = redis.info("server")["redis_version"]
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL {postgres}, "
        f"Redis {version}; {options.count:,} mails, medians of {options.rounds}; "
        f"load before the run {load:.1f}"
    )


def report(scenario: str, measured: Sequence[Delivery | Figure], where: str) -> None:
    """Print the medians, and keep everything in the folder of results."""
    runs = medians(each for each in measured if isinstance(each, Delivery))
    single = medians(each for each in measured if isinstance(each, Figure))
    parts = [f"## {scenario}", where]
    if runs:
        parts += [tables.deliveries(runs), tables.variants(runs)]
    if single:
        parts += [tables.figures(single)]
    text = "\n\n".join(parts) + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{scenario}"
    (RESULTS / f"{stem}.md").write_text(text)
    (RESULTS / f"{stem}.json").write_text(json.dumps([asdict(each) for each in measured], indent=1))


def _line(each: Delivery | Figure) -> str:
    if isinstance(each, Figure):
        return f"{each.round} {each.label}: {each.name}: {each.value:,.4g} {each.unit}"
    return (
        f"{each.round} {each.label}, {each.variant}: {each.rate:,.0f}/s, {each.cpu_ms:.2f} ms, "
        f"{each.pss_mb:.0f} MB, queued in {each.enqueue_us:,.0f} µs"
    )


def _names_of(known: dict[str, object] | dict[str, type[System]] | dict[str, Scenario]):
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown)}: there are only {', '.join(known)}"
            )
        return names

    return parse


if __name__ == "__main__":
    main()
