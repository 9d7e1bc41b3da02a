"""The retry decision, as tables."""

from __future__ import annotations

import pytest

from notifications.message import Outcome, Verdict
from notifications.retries import RARELY, Again, GiveUp, RetryPolicy, Wait, decide

LATER = Outcome(Verdict.LATER, code="451", text="busy")
REFUSED = Outcome(Verdict.PERMANENT, code="550", text="unknown user")
LOST = Outcome(Verdict.UNKNOWN, text="lost")
EXPIRES = GiveUp("would expire before the next attempt: 451 busy", "expired")
NEVER = lambda: 0.0  # noqa: E731
ALWAYS = lambda: 1.0  # noqa: E731


@pytest.mark.parametrize(
    ("policy", "attempt", "wait"),
    [
        (RetryPolicy(), 1, 2),
        (RetryPolicy(), 2, 4),
        (RetryPolicy(), 3, 8),
        (RetryPolicy(backoff="fixed", base=5), 1, 5),
        (RetryPolicy(backoff="fixed", base=5), 3, 5),
        (RetryPolicy(base=10, longest=15), 2, 15),
    ],
)
def test_the_wait_grows_as_the_policy_says(policy: RetryPolicy, attempt: int, wait: float) -> None:
    assert policy.wait(attempt, draw=NEVER) == wait


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_jitter_lengthens_a_wait_and_never_shortens_it(attempt: int) -> None:
    policy = RetryPolicy()
    shortest, longest = policy.wait(attempt, draw=NEVER), policy.wait(attempt, draw=ALWAYS)
    assert longest == pytest.approx(shortest * 1.1)
    assert shortest <= policy.wait(attempt) <= longest


@pytest.mark.parametrize(
    ("outcome", "attempt", "options", "expected"),
    [
        (LATER, 1, {}, Again(2.0)),
        (LATER, 3, {}, Again(8.0)),
        (LATER, 4, {}, GiveUp("451 busy (attempt 4 of 4)")),
        (LATER, 1, {"expires_in": 1.0}, EXPIRES),
        (LATER, 1, {"expires_in": 60.0}, Again(2.0)),
        (Outcome(Verdict.LATER, code="429", retry_after=30), 1, {}, Again(30)),
        (Outcome(Verdict.LATER, code="429", retry_after=1), 1, {}, Again(2.0)),
        (REFUSED, 1, {}, GiveUp("550 unknown user")),
        (LOST, 1, {}, Again(2.0)),
        (LOST, 1, {"at_most_once": True}, GiveUp("lost", "unknown")),
        (LOST, 3, {"held": True}, Again(8.0)),
        (LOST, 4, {"held": True}, Wait("lost", RARELY)),
        (LOST, 4, {}, GiveUp("lost (attempt 4 of 4)")),
        (LOST, 4, {"held": True, "at_most_once": True}, GiveUp("lost", "unknown")),
        (Outcome(Verdict.LATER, text="soon", retry_after=6, patient=True), 4, {}, Wait("soon", 6)),
        (Outcome(Verdict.HOLD, code="535", text="auth"), 4, {}, Wait("535 auth")),
        (Outcome(Verdict.HOLD, code="401", retry_after=10), 1, {}, Wait("401 hold")),
    ],
)  # fmt: skip
def test_the_decision(
    outcome: Outcome, attempt: int, options: dict[str, object], expected: object
) -> None:
    assert decide(
        outcome, attempt=attempt, policy=RetryPolicy(), draw=NEVER, **options  # type: ignore[arg-type]
    ) == expected  # fmt: skip


def test_without_retries_the_first_failure_is_the_last() -> None:
    decision = decide(LATER, attempt=1, policy=RetryPolicy(retries=0))
    assert isinstance(decision, GiveUp)


@pytest.mark.parametrize("fields", [{"retries": -1}, {"base": -1}, {"backoff": "soon"}])
def test_a_senseless_policy_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        RetryPolicy(**fields)  # type: ignore[arg-type]


def test_a_call_may_change_some_fields_of_a_policy() -> None:
    assert RetryPolicy().with_overrides({"retries": 7}) == RetryPolicy(retries=7)
    assert RetryPolicy().with_overrides(None) == RetryPolicy()
