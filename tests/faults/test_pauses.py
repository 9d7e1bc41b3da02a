"""A pause under load holds at once, on every worker, and what is resumed goes on at once."""

from __future__ import annotations

import time

import pytest

from tests.faults.world import World

ASK = """
from django.db import transaction
from notifications.dispatch import send_email
with transaction.atomic():
    mails = [f"person{n}@example.com" for n in range(4000)]
    send_email(to=mails, subject="Hello", text="Hello")
"""
WITHIN = 1.0  # seconds


@pytest.mark.faults
def test_a_pause_holds_within_a_second_while_many_are_sent(world: World) -> None:
    world.variables["FAULTS_RATE"] = "100/s"
    world.manage("shell", "-v0", "-c", ASK)
    for _ in range(2):
        world.worker()
    world.wait(lambda: world.arrived() > 20)
    world.manage("notifications_pause", "email", "--reason", "the printer")
    answered = time.monotonic()
    time.sleep(WITHIN)
    at_rest = world.arrived()
    time.sleep(2)
    late = world.arrived() - at_rest
    last = max(world.inbox.times.values()) - answered
    world.manage("notifications_resume", "email")
    resumed = time.monotonic()
    world.wait(lambda: world.arrived() > at_rest + late)
    first = min(at for at in world.inbox.times.values() if at > answered + WITHIN) - resumed
    print(
        f"\nlast message {last:+.2f} s after the pause, first {first:+.2f} s after the resumption"
    )
    assert late == 0
    assert first < WITHIN
    assert world.count("notifications_notification WHERE state = 'pending' AND attempts > 0") == 0
