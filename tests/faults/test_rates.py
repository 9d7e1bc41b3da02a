"""The rates that providers see: two channels, each with its own limit, over the same workers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

import pytest

from notifications.testing.http_server import Reply, Request
from notifications.testing.whatsapp_server import Template, WhatsAppServer
from tests.faults.world import World

ASK = """
from django.db import transaction
from notifications.dispatch import send_email, send_whatsapp
with transaction.atomic():
    mails = [f"person{{n}}@example.com" for n in range({mails})]
    send_email(to=mails, subject="Hello", text="Hello")
    phones = [f"+1202555{{n:04}}" for n in range(100, 100 + {texts})]
    send_whatsapp(phones, "hello", language="en_US")
"""


class TimingWhatsApp(WhatsAppServer):
    """Writes down when each message came."""

    def __init__(self) -> None:
        super().__init__(templates=[Template("hello", body="Hello.")])
        self.times: list[float] = []

    def respond(self, request: Request) -> Reply:
        self.times.append(time.monotonic())
        return super().respond(request)


@pytest.fixture
def whatsapp(world: World) -> Iterator[TimingWhatsApp]:
    with TimingWhatsApp() as server:
        world.variables |= {
            "FAULTS_RATE": "10/s",
            "WHATSAPP_TOKEN": server.token,
            "WHATSAPP_PHONE_ID": server.phone_id,
            "WHATSAPP_API_URL": server.api_url,
        }
        yield server


def per_second(times: Sequence[float]) -> float:
    """Arrivals a second, from the first to the last."""
    return (len(times) - 1) / (times[-1] - times[0])


def busiest(times: Sequence[float]) -> int:
    """The most arrivals in any one second."""
    return max(sum(1 for each in times if 0 <= each - start < 1.0) for start in times)


def each_second(times: Sequence[float]) -> list[int]:
    """The arrivals of every second, from the first to the last."""
    seconds = Counter(int(each - times[0]) for each in times)
    return [seconds[number] for number in range(int(times[-1] - times[0]) + 1)]


def measure(
    world: World, whatsapp: TimingWhatsApp, seconds: int
) -> Iterator[tuple[int, list[float]]]:
    """The rate of each channel, and when its messages arrived: as many as in so many seconds."""
    ask = ASK.format(mails=10 * (seconds + 4), texts=5 * (seconds + 4))
    world.manage("shell", "-v0", "-c", ask)
    for _ in range(3):
        world.worker()
    world.wait(lambda: world.arrived() > 0 and bool(whatsapp.times))
    time.sleep(seconds)
    world.wait(
        lambda: world.arrived() >= 10 * seconds * 0.9 and len(whatsapp.times) >= 5 * seconds * 0.9
    )
    for channel, times, rate in (
        ("email", sorted(world.inbox.times.values()), 10),
        ("whatsapp", sorted(whatsapp.times), 5),
    ):
        print(
            f"\n{channel}: {len(times)} in {times[-1] - times[0]:.2f} s, "
            f"{per_second(times):.2f}/s, at most {busiest(times)} in a second"
        )
        yield rate, times
    assert max(world.inbox.accepted.values()) == 1
    assert max(whatsapp.deliveries.values()) == 1


@pytest.mark.usefixtures("unharmed")
def test_three_workers_keep_to_the_rates_of_two_channels(
    world: World, whatsapp: TimingWhatsApp
) -> None:
    """Other processes put arrivals off, and others then on top of each other: in some seconds."""
    for rate, times in measure(world, whatsapp, seconds=8):
        assert median(each_second(times)[1:-1]) <= rate + 1
        assert max(sum(0 <= each - start < 2.0 for each in times) for start in times) >= 1.4 * rate


@pytest.mark.faults
@pytest.mark.usefixtures("unharmed")
def test_three_workers_keep_to_the_rates_for_half_a_minute(
    world: World, whatsapp: TimingWhatsApp
) -> None:
    for rate, times in measure(world, whatsapp, seconds=30):
        assert 0.95 * rate <= per_second(times) <= rate
        assert busiest(times) <= rate + 1
        assert max(later - earlier for earlier, later in pairwise(times)) < 1.0
