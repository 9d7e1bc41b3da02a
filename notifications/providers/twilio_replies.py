"""What the answers of Twilio's Messages API mean.

The codes are those of "Error and Warning Dictionary" (https://www.twilio.com/docs/api/errors); the
same come in answers and in status callbacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from notifications.message import Outcome, Verdict
from notifications.providers.http_replies import judge_status, read_wait

OPTED_OUT = 21610


@dataclass(frozen=True, slots=True)
class Rule:
    """What one code stands for."""

    verdict: Verdict
    theirs: bool = False  # the provider's trouble: the next one may try
    wait: float | None = None  # seconds
    suppress: bool = False


LATER = Rule(Verdict.LATER, theirs=True)
HOLD = Rule(Verdict.HOLD, theirs=True)
NEVER = Rule(Verdict.PERMANENT)

RULES: Mapping[int, Rule] = {
    # Too many calls, a full queue, trouble of the service or of a carrier.
    **dict.fromkeys((14107, 20429, 30001, 30008, 30017, 30022), LATER),
    63038: Rule(Verdict.LATER, theirs=True, wait=3_600.0),  # the account's limit of the day
    30003: Rule(Verdict.LATER, wait=300.0),  # the phone is off, or out of reach
    # Key, account, balance, a sender that is not ours or not registered.
    **dict.fromkeys((20003, 20005, 20008, 20403, 30002, 30034, 30035), HOLD),
    **dict.fromkeys((21212, 21603, 21606, 21659, 21660, 21703, 21705), HOLD),
    # The recipient, the text, or what the two may not do with each other.
    **dict.fromkeys((21211, 21217, 21265, 21408, 21601, 21602, 21604, 21605, 21612), NEVER),
    **dict.fromkeys((21614, 21617, 21635, 30004, 30005, 30006, 30007, 30018), NEVER),
    OPTED_OUT: Rule(Verdict.PERMANENT, suppress=True),
}


def judge_code(code: int, text: str) -> Outcome | None:
    """The outcome that one of Twilio's codes stands for; None for one that is not known here.

    `text` is redacted already.
    """
    rule = RULES.get(code)
    return None if rule is None else Outcome(
        rule.verdict,
        code=str(code),
        text=text,
        retry_after=rule.wait,
        theirs=rule.theirs,
        suppress=rule.suppress,
    )  # fmt: skip


def judge_report(code: int | None, text: str) -> Outcome:
    """The outcome that a failure reported later stands for; one that is not known here is for
    good, since Twilio has given up."""
    known = None if code is None else judge_code(code, text)
    return known or Outcome(Verdict.PERMANENT, code="" if code is None else str(code), text=text)


def judge_answer(status: int, headers: Mapping[str, str], body: Any, text: str) -> Outcome:
    """The outcome of an answer; `body` is its JSON, None if it had none, `text` is redacted."""
    given = body if isinstance(body, dict) else {}
    if 200 <= status < 300:
        sid = given.get("sid")
        if isinstance(sid, str) and sid:
            return Outcome(Verdict.ACCEPTED, code=str(status), message_id=sid)
        nothing = text or "not an answer of the API"
        return Outcome(Verdict.UNKNOWN, code=str(status), text=nothing, theirs=True)
    if status >= 500:  # the message may have been made before the trouble
        return Outcome(Verdict.UNKNOWN, code=str(status), text=text, theirs=True)
    code = given.get("code")
    outcome = judge_code(code, text) if isinstance(code, int) else None
    if outcome is None:
        outcome = judge_status(status, headers, text)
        if not isinstance(code, int) and outcome.verdict is Verdict.PERMANENT:
            # Not the API's own word: somebody else answers at its address.
            return Outcome(Verdict.HOLD, code=str(status), text=text, theirs=True)
    if outcome.verdict is Verdict.LATER and (wait := read_wait(status, headers)) is not None:
        return Outcome(
            Verdict.LATER, code=outcome.code, text=text, theirs=outcome.theirs, retry_after=wait
        )
    return outcome
