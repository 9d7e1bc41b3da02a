"""What the answers of mail services over HTTP mean.

The table is SendGrid's ("Errors" and "Rate Limits" on
https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api), and serves
the other services as well: they follow HTTP (RFC 9110 §15) as closely.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from notifications.message import Outcome, Verdict

LONGEST_WAIT = 3600.0  # seconds; whatever a service asks for
_EPOCH = 1_000_000_000.0  # a number of seconds beyond it is a date


def judge_status(status: int, headers: Mapping[str, str], text: str) -> Outcome:
    """The outcome that an HTTP status stands for; `text` is redacted already.

    401, 402 and 403 (key, money, permission) hold the provider, and so does a redirect: nothing
    will be taken until somebody mends it. A success that reached nobody as one is unknown.
    """
    code = str(status)
    if 200 <= status < 300:
        return Outcome(Verdict.UNKNOWN, code=code, text=text, theirs=True)
    if 300 <= status < 400 or status in (401, 402, 403, 407):
        return Outcome(Verdict.HOLD, code=code, text=text, theirs=True)
    if status in (408, 425, 429) or status >= 500:
        wait = read_wait(status, headers)
        return Outcome(Verdict.LATER, code=code, text=text, theirs=True, retry_after=wait)
    # Another service may take what is too large for this one.
    return Outcome(Verdict.PERMANENT, code=code, text=text, theirs=status == 413)


def read_wait(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds that a service asks to wait: Retry-After, or where its limit is reached
    X-RateLimit-Reset. SendGrid tells with every answer when a limit begins anew, which may be in an
    hour and says nothing of how long a trouble lasts.
    """
    now = _read_date(headers.get("Date")) or time.time()  # theirs: one of the clocks may be wrong
    reached = status == 429 or headers.get("X-RateLimit-Remaining", "").strip() == "0"
    given = (reached and headers.get("X-RateLimit-Reset")) or headers.get("Retry-After")
    if not given:
        return None
    try:
        seconds = float(given)
    except ValueError:
        until = _read_date(given)
        if until is None:
            return None
        seconds = until
    if seconds > _EPOCH:
        seconds -= now
    return min(max(seconds, 1.0), LONGEST_WAIT)


def read_message(body: Any) -> str:
    """What a service says is wrong, from its JSON; empty if it says it elsewhere."""
    if not isinstance(body, dict):
        return ""
    errors = body.get("errors")
    if isinstance(errors, list):
        said = [each.get("message") for each in errors if isinstance(each, dict)]
        return "; ".join(each for each in said if isinstance(each, str))
    for name in ("message", "Message", "error", "detail"):
        if isinstance(body.get(name), str):
            return str(body[name])
    return ""


def _read_date(value: str | None) -> float | None:
    if not value:
        return None
    try:
        return parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError):
        return None
