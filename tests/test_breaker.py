"""The rules of the breaker, as tables."""

from __future__ import annotations

import pytest

from notifications.breaker import BreakerPolicy, is_certain, is_trouble, open_seconds, trips
from notifications.message import Outcome, Verdict

DOWN = Outcome(Verdict.LATER, code="refused", theirs=True)
ASKED = Outcome(Verdict.LATER, code="429", theirs=True, retry_after=30)
LOCKED = Outcome(Verdict.HOLD, code="535", theirs=True)


@pytest.mark.parametrize(
    ("outcome", "trouble", "certain"),
    [
        (DOWN, True, False),
        (ASKED, True, True),
        (LOCKED, True, True),
        (Outcome(Verdict.HOLD, code="401", retry_after=9), True, True),
        (Outcome(Verdict.UNKNOWN, code="deadline", theirs=True), True, False),
        (Outcome(Verdict.UNKNOWN, error="TypeError"), False, False),
        (Outcome(Verdict.LATER, code="451"), False, False),
        (Outcome(Verdict.PERMANENT, code="413", theirs=True), False, False),
        (Outcome(Verdict.HOLD, code="132015", holds="order_paid"), False, True),
        (Outcome(Verdict.ACCEPTED), False, False),
    ],
)
def test_what_tells_against_the_provider(outcome: Outcome, trouble: bool, certain: bool) -> None:
    assert is_trouble(outcome) is trouble
    assert is_certain(outcome) is certain


@pytest.mark.parametrize(
    ("newest_first", "opens"),
    [
        ([], False),
        ([True, True], False),
        ([True, True, True], True),
        ([True, True, False, True], False),
        ([False, True, True, True], False),
        ([True, True, True, False], True),
    ],
)
def test_three_troubles_in_a_row_open_it(newest_first: list[bool], opens: bool) -> None:
    assert trips(newest_first, BreakerPolicy()) is opens


@pytest.mark.parametrize(
    ("outcome", "probes", "seconds"),
    [
        (DOWN, 0, 5),
        (DOWN, 1, 10),
        (DOWN, 3, 40),
        (DOWN, 4, 60),
        (DOWN, 4000, 60),
        (ASKED, 0, 30),
        (ASKED, 7, 30),
        (Outcome(Verdict.LATER, theirs=True, retry_after=90_000), 0, 3600),
        (LOCKED, 0, 300),
        (LOCKED, 5, 300),
    ],
)
def test_it_stays_open_twice_as_long_after_each_vain_probe(
    outcome: Outcome, probes: int, seconds: float
) -> None:
    assert open_seconds(outcome, probes=probes, policy=BreakerPolicy()) == seconds


@pytest.mark.parametrize(
    "wrong", [{"failures": 0}, {"base": 0}, {"base": 9, "longest": 8}, {"patience": -1}]
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="FAILURES"):
        BreakerPolicy(**wrong)  # type: ignore[arg-type]
