"""What is measured of this project alone."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql

from benchmarks.measurements import Figure
from benchmarks.ours.system import Ours
from benchmarks.processes import Group
from benchmarks.sinks import Sink
from benchmarks.systems import System, Variant

FEW, MANY = 1_000, 1_000_000  # rows that wait
SLOW = 2.0  # seconds the mail server of `checkout` takes


def backlog(system: System, count: int, round_: int) -> Iterator[Figure]:
    """The rate while few and while very many rows wait, and a critical message behind them."""
    assert isinstance(system, Ours)
    rates = {}
    for waiting, ahead in ((FEW, 0), (MANY, MANY)):
        with _sink(system) as sink:
            _fill(system, waiting + count, ahead)
            with _started(system, system.workers(2, 5)) as workers:
                rate = rates[waiting, ahead] = _rate(sink, workers, count)
                waits = json.loads(system.django("measure_overtaking", "10"))
            where = f"{waiting:,} low-priority rows wait, {ahead:,} are scheduled ahead"
            yield _figure("backlog", system, f"rate while {where}", "mails/s", round_, rate)
            for what, value in (("median", statistics.median(waits)), ("longest", max(waits))):
                text = f"critical message while {where}, {what} of {len(waits)}"
                yield _figure("backlog", system, text, "s", round_, value)
            if waiting > FEW:
                share = rate / rates[FEW, 0]
                text = f"rate while {where}, to that while {FEW:,} wait"
                yield _figure("backlog", system, text, "×", round_, share)


def hop(system: System, count: int, round_: int) -> Iterator[Figure]:
    """From the commit of `publish` to the mail's acceptance, on an idle system."""
    assert isinstance(system, Ours)
    with _sink(system), _started(system, system.workers(2, 5)):
        system.django("save_orders", "40")
        hops = json.loads(system.django("measure_hops", "40"))
    tenths = statistics.quantiles(hops, n=10)
    for what, value in (("median", statistics.median(hops)), ("nine of ten below", tenths[8])):
        text = f"commit of publish() to acceptance, {what}"
        yield _figure("hop", system, text, "ms", round_, value * 1000)


def checkout(system: System, count: int, round_: int) -> Iterator[Figure]:
    """An order's transaction with a mail server that takes two seconds."""
    assert isinstance(system, Ours)
    with _sink(system, delay=SLOW), _started(system, system.workers(2, 5)):
        seconds = json.loads(system.django("measure_checkout", "5", "100"))
    for name, value in seconds.items():
        yield _figure("checkout", system, f"checkout, {name}", "ms", round_, value * 1000)
    for call in ("notify()", "publish()"):
        times = seconds["sent inline"] / seconds[call]
        yield _figure("checkout", system, f"{call} is faster than inline", "×", round_, times)
        more = (seconds[call] - seconds["no mail"]) * 1000
        yield _figure("checkout", system, f"{call} costs the request", "ms", round_, more)


@contextmanager
def _sink(system: Ours, *, delay: float = 0.0) -> Iterator[Sink]:
    """A mail server, and an empty database."""
    with Sink(delay=delay) as sink:
        system.surroundings.sink = sink
        system.surroundings.empty(system.template)
        try:
            yield sink
        finally:
            system.surroundings.sink = None


@contextmanager
def _started(system: Ours, variant: Variant) -> Iterator[Group]:
    workers = system.start(variant)
    try:
        yield workers
    finally:
        workers.stop()


def _fill(system: Ours, low: int, ahead: int) -> None:
    """Write low-priority rows that are due, and normal ones that are due tomorrow."""
    system.django("queue_mails", system.function, "1")
    with system.surroundings.connect_postgres() as connection:
        names = [
            row[0]
            for row in connection.execute(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_name = 'notifications_notification' AND column_name <> 'id'"
            )
        ]
        for count, priority, due in (
            (ahead, 2, sql.SQL("now() + interval '1 day'")),
            (low, 3, sql.SQL("now()")),
        ):
            changed = {"priority": sql.Literal(priority), "due_at": due, "wanted_at": due}
            connection.execute(
                sql.SQL(
                    "INSERT INTO notifications_notification ({columns}) SELECT {values}"
                    " FROM notifications_notification, generate_series(1, {count}) WHERE id = 1"
                ).format(
                    columns=sql.SQL(", ").join(map(sql.Identifier, names)),
                    values=sql.SQL(", ").join(
                        changed.get(name, sql.Identifier(name)) for name in names
                    ),
                    count=sql.Literal(count),
                )
            )
        connection.execute("VACUUM (ANALYZE) notifications_notification")
        connection.execute("CHECKPOINT")


def _rate(sink: Sink, workers: Group, count: int) -> float:
    """Mails a second from the first tenth of `count` to the last."""
    already = sink.wait_for(count // 10, check=workers.check)
    began = time.perf_counter()
    received = sink.wait_for(count, check=workers.check)
    return (received - already) / (time.perf_counter() - began)


def _figure(
    scenario: str, system: System, name: str, unit: str, round_: int, value: float
) -> Figure:
    return Figure(scenario, system.name, system.label, name, unit, round_, value)
