"""An hour without a provider, on a clock that runs three hundred times faster."""

from __future__ import annotations

import time

import pytest

from notifications.testing.sendgrid_server import SendGridServer
from tests.faults.world import PATIENCE, World

DOWN = "421 4.3.2 the service is not available"
HOUR = 12.0  # seconds


def begin(world: World, **variables: str) -> None:
    world.variables |= {"FAULTS_COMPRESSED": "1", **variables}
    world.inbox.answer = lambda row, to: DOWN


@pytest.mark.faults
def test_an_hour_without_the_only_provider_kills_nothing_and_burns_no_attempt(
    world: World,
) -> None:
    rows, rate = 150, 20
    begin(world, FAULTS_RATE=f"{rate}/s")
    world.place(rows, "--in-one-transaction")
    for _ in range(2):
        world.worker()
    time.sleep(HOUR)
    assert world.arrived() == 0
    waiting = world.query("SELECT state, attempts FROM notifications_notification "
                          "WHERE channel = 'email'")  # fmt: skip
    assert {state for state, _attempts in waiting} == {"pending"}
    # Those that found the trouble out, before the breaker opened.
    burnt = sum(attempts for _state, attempts in waiting)
    tried = world.count("notifications_attempt")
    told = world.query("SELECT key FROM notifications_alert")
    world.inbox.answer = lambda row, to: None
    mended = time.monotonic()
    tally = world.settle()
    seconds = time.monotonic() - mended
    times = sorted(world.inbox.times.values())
    print(f"\n{tally}; {tried} attempts in the outage, {burnt} counted; {len(told)} alert; "
          f"drained in {seconds:.1f} s")  # fmt: skip
    assert (tally.lost, tally.doubled) == (0, 0), world.logs()[-4000:]
    assert world.count("notifications_deadletter") == 0
    assert burnt <= 30
    assert len(told) == 1
    assert (len(times) - 1) / (times[-1] - times[0]) <= rate * 1.05
    assert seconds < rows / rate + 10


@pytest.mark.usefixtures("unharmed")
def test_with_a_second_provider_everything_goes_there_and_back(world: World) -> None:
    with SendGridServer() as sendgrid:
        begin(
            world,
            FAULTS_PROVIDERS="smtp,sendgrid",
            FAULTS_SENDGRID_URL=sendgrid.url,
            FAULTS_SENDGRID_KEY=sendgrid.api_key,
        )
        world.worker()
        world.place(30)
        sendgrid.wait_for(30, seconds=PATIENCE)
        assert world.arrived() == 0
        world.inbox.answer = lambda row, to: None
        placed = 30

        def found_out() -> bool:
            """Whether one more message found out that the first provider is back."""
            nonlocal placed
            world.place(1)
            placed += 1
            return world.count("notifications_hold WHERE lifted_at IS NULL") == 0

        world.wait(found_out)
        world.wait(lambda: world.arrived() + len(sendgrid.accepted) == placed)
        by_first, by_second = world.arrived(), len(sendgrid.accepted)
        world.place(10)
        world.wait(lambda: world.arrived() == by_first + 10)
        print(
            f"\n{by_second} by the second provider, {world.arrived()} by the first after "
            "it was back"
        )
        assert len(sendgrid.accepted) == by_second
        assert max(sendgrid.deliveries.values()) == 1
        assert world.count("notifications_deadletter") == 0
