"""What the answers of WhatsApp's Cloud API mean.

The codes are those of Meta's documentation ("Error codes",
https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes);
the same come in answers and in webhooks. Meta asks to go by the code, not by the HTTP status or
the words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from notifications.message import Outcome, Verdict
from notifications.providers.http_replies import judge_status, read_wait

CALLS = 60.0  # seconds, unless the answer says how long
THROUGHPUT = 1.0  # seconds; the limit is one of messages a second
PAIR = 6.0  # seconds between two messages to the same person ("Pair rate limits")
DAY = 86_400.0  # seconds before a person who has had enough marketing may get more (131049)
TEMPLATE = 1_800.0  # seconds until a paused template is tried again; Meta pauses for hours

OPTED_OUT = 131050
MISSING = 33  # subcode of 100: the phone id does not exist, or the token may not use it

# Where what is sent does not fit the template: code and approved template can be compared.
MISFITS = frozenset((100, 131008, 131009, 132000, 132001, 132005, 132007, 132012, 132018))


@dataclass(frozen=True, slots=True)
class Rule:
    """What one code stands for."""

    verdict: Verdict
    theirs: bool = False  # the provider's trouble: the next one may try
    wait: float | None = None  # seconds
    template: bool = False  # of HOLD: the template alone
    suppress: bool = False
    patient: bool = False


LATER = Rule(Verdict.LATER, theirs=True)
HOLD = Rule(Verdict.HOLD, theirs=True)
PAUSED = Rule(Verdict.HOLD, wait=TEMPLATE, template=True)
NEVER = Rule(Verdict.PERMANENT)

RULES: Mapping[int, Rule] = {
    # Unknown trouble, overload, maintenance.
    **dict.fromkeys((1, 2, 131000, 131016, 131057, 133004), LATER),
    # Too many calls: in an hour, by the app or the account; in a second, by the number.
    **dict.fromkeys((4, 80007), Rule(Verdict.LATER, theirs=True, wait=CALLS)),
    130429: Rule(Verdict.LATER, theirs=True, wait=THROUGHPUT),
    131056: Rule(Verdict.LATER, wait=PAIR, patient=True),  # too many to this person
    131049: Rule(Verdict.LATER, wait=DAY),  # enough marketing for this person
    # Token, permission, payment, an account that is locked or slowed down.
    **dict.fromkeys((0, 3, 10, 190, *range(200, 300), 368), HOLD),
    **dict.fromkeys((131005, 131031, 131042, 131045, 131048, 131064, 133010), HOLD),
    # The template is paused for its quality, or slowed down.
    **dict.fromkeys((132015, 132069), PAUSED),
    # A parameter, the recipient, the template as it is, an experiment of Meta's.
    **dict.fromkeys((33, 100, 131008, 131009, 131021, 131026, 131030, 131047, 131051), NEVER),
    **dict.fromkeys((132000, 132001, 132005, 132007, 132008, 132012, 132016, 132018), NEVER),
    **dict.fromkeys((130472, 130497), NEVER),
    OPTED_OUT: Rule(Verdict.PERMANENT, suppress=True),
}


def judge_code(code: int, text: str, *, template: str) -> Outcome | None:
    """The outcome that one of Meta's codes stands for; None for a code that is not known here.

    `text` is redacted already; `template` is the message's.
    """
    rule = RULES.get(code)
    return None if rule is None else Outcome(
        rule.verdict,
        code=str(code),
        text=text,
        retry_after=rule.wait,
        patient=rule.patient,
        theirs=rule.theirs,
        holds=template if rule.template else "",
        suppress=rule.suppress,
    )  # fmt: skip


def judge_report(code: Any, text: str) -> Outcome:
    """The outcome that the code of a failure reported later stands for; one that is not known
    here is for good, since Meta has given up."""
    known = judge_code(code, text, template="template") if isinstance(code, int) else None
    given = str(code) if isinstance(code, int | str) else ""
    return known or Outcome(Verdict.PERMANENT, code=given[:32], text=text)


def judge_answer(
    status: int, headers: Mapping[str, str], body: Any, text: str, *, template: str
) -> Outcome:
    """The outcome of an answer; `body` is its JSON, None if it had none, `text` is redacted."""
    error = read_error(body)
    if error is None:
        if 200 <= status < 300:
            return _judge_success(status, body, text)
        outcome = judge_status(status, headers, text)
        if outcome.verdict is Verdict.PERMANENT:
            # Not the API's own word: somebody else answers at its address.
            return replace(outcome, verdict=Verdict.HOLD, theirs=True)
        return outcome
    if error.code == 100 and error.subcode == MISSING:
        return Outcome(Verdict.HOLD, code="100", text=text, theirs=True)
    outcome = judge_code(error.code, text, template=template) or _judge_unknown(
        error, status, headers, text
    )
    if outcome.verdict is Verdict.LATER and outcome.theirs:
        return replace(outcome, retry_after=read_patience(status, headers) or outcome.retry_after)
    return outcome


@dataclass(frozen=True, slots=True)
class GraphError:
    """The `error` of an answer ("Handle errors" in the Graph API's documentation)."""

    code: int
    subcode: int
    transient: bool
    text: str  # not redacted


def read_error(body: Any) -> GraphError | None:
    """The error in an answer or a webhook; None if there is none."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("code"), int):
        return None
    subcode = error.get("error_subcode")
    return GraphError(
        error["code"],
        subcode if isinstance(subcode, int) else 0,
        error.get("is_transient") is True,
        read_words(error),
    )


def read_words(error: Mapping[str, Any]) -> str:
    """What an error says: its message, and the details that tell more than its title does."""
    data = error.get("error_data")
    details = data.get("details") if isinstance(data, dict) else None
    words = [error.get("message") or error.get("title"), details]
    return ": ".join(each for each in words if isinstance(each, str) and each)


def read_message_id(body: Any) -> str:
    """The wamid of an accepted message; empty if there is none."""
    try:
        given = body["messages"][0]["id"]
    except (KeyError, IndexError, TypeError):
        return ""
    return given if isinstance(given, str) else ""


def read_patience(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: Retry-After, or the longest `estimated_time_to_regain_access`, which is in
    minutes ("Business use case rate limits" in the Graph API's documentation)."""
    given = read_wait(status, headers)
    try:
        usage = json.loads(headers.get("X-Business-Use-Case-Usage") or "{}")
        minutes = [
            each["estimated_time_to_regain_access"] for all_ in usage.values() for each in all_
        ]
        longest = 60.0 * max(minutes, default=0)
    except (ValueError, TypeError, KeyError, AttributeError):
        longest = 0.0
    return max(given or 0.0, longest) or None


def _judge_success(status: int, body: Any, text: str) -> Outcome:
    message_id = read_message_id(body)
    if message_id:
        return Outcome(Verdict.ACCEPTED, code=str(status), message_id=message_id)
    nothing = text or "not an answer of the API"
    return Outcome(Verdict.UNKNOWN, code=str(status), text=nothing, theirs=True)


def _judge_unknown(
    error: GraphError, status: int, headers: Mapping[str, str], text: str
) -> Outcome:
    """A code that is newer than this table: by its own flag, else by the HTTP status."""
    if error.transient:
        return Outcome(Verdict.LATER, code=str(error.code), text=text, theirs=True)
    return replace(judge_status(status, headers, text), code=str(error.code))
