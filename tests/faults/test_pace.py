"""Rates kept by several workers together, measured where the messages arrive."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Sequence

import pytest

from notifications.testing.whatsapp_server import WhatsAppServer
from orders.whatsapp import TEMPLATES
from tests.faults.world import World


def busiest_second(times: Sequence[float]) -> int:
    """The most arrivals in any one second."""
    return max(bisect_right(times, each + 1.0) - place for place, each in enumerate(times))


def pace(times: Sequence[float]) -> float:
    """Arrivals in a second, from the first to the last."""
    return (len(times) - 1) / (times[-1] - times[0])


@pytest.mark.parametrize(
    ("seconds", "workers", "slack", "jitter"),
    [
        pytest.param(5, 2, 0.25, 4, id="short"),  # beside other tests: a busy machine sends less
        pytest.param(30, 3, 0.05, 1, id="full", marks=pytest.mark.faults),
    ],
)
def test_mail_and_whatsapp_keep_their_rates_side_by_side(
    world: World, seconds: int, workers: int, slack: float, jitter: int
) -> None:
    arrivals: list[float] = []
    with WhatsAppServer(
        templates=TEMPLATES, on_message=lambda message: arrivals.append(time.monotonic())
    ) as server:
        world.variables = {
            "FAULTS_RATE": "10/s",
            "WHATSAPP_QUEUE_RATE": "5/s",
            **{f"WHATSAPP_{name}": value for name, value in server.options.items()},
        }
        world.place(15 * seconds, "--in-one-transaction")
        for _ in range(workers):
            world.worker()
        world.wait(lambda: bool(arrivals and world.inbox.times), 60)
        time.sleep(seconds + 2)
    print()
    for name, told, limit in [
        ("mail", sorted(world.inbox.times.values()), 10),
        ("WhatsApp", sorted(arrivals), 5),
    ]:
        start = told[0] + 1.0  # all workers are there
        times = [each for each in told if start <= each <= start + seconds]
        print(
            f"{name} at {limit}/s by {workers} workers over {seconds} s: "
            f"{pace(times):.2f} a second, at most {busiest_second(times)} in one"
        )
        assert limit * (1 - slack) <= pace(times) <= limit * (1.01 if jitter == 1 else 1.1)
        assert busiest_second(times) <= limit + jitter
