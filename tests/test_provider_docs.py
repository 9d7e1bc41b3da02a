"""The tables in docs/providers.md are printed from the code: `python -m tests.test_provider_docs`
prints them anew."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import pytest

from notifications import conf
from notifications.breaker import REFUSED, BreakerPolicy
from notifications.message import Email, Outcome, Verdict
from notifications.providers import twilio_replies, whatsapp_replies
from notifications.providers.http_replies import judge_status
from notifications.providers.smtp_replies import Reply, judge_reply

pytestmark = pytest.mark.sqlite_only

PAGE = Path(__file__).parent.parent / "docs/providers.md"
MAIL = Email(id=1, to="ann@example.com", sender="shop@example.com", subject="", text="x")


def follow(outcome: Outcome) -> str:
    """In words, what an outcome leads to."""
    wait = outcome.retry_after
    match outcome.verdict:
        case Verdict.ACCEPTED:
            return "sent"
        case Verdict.UNKNOWN:
            return "unknown: the kind decides"
        case Verdict.PERMANENT if outcome.suppress:
            return "the address is suppressed"
        case Verdict.PERMANENT if outcome.theirs:
            return "the next provider at once; without one a dead letter"
        case Verdict.PERMANENT:
            return "dead letter, or the kind's next channel"
        case Verdict.HOLD if outcome.holds:
            return f"the template is held for {spell(wait)}; told"
        case Verdict.HOLD:
            return f"the provider is held for {spell(REFUSED)}, then probed; told"
        case _ if outcome.theirs and wait is not None:
            return f"the provider is left alone for {spell(wait)}, or for as long as it asks"
        case _ if outcome.theirs:
            return "the next provider at once; without one again later; counts for the breaker"
        case _ if wait is not None:
            return f"again after {spell(wait)}; other messages go on"
    return "again later; other messages go on"


def spell(seconds: float | None) -> str:
    assert seconds is not None
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            count = round(seconds / size)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds:g} s"


def table(codes: Iterable[int], judge: Callable[[int], Outcome]) -> str:
    """What follows from each of `codes`, those together that lead to the same."""
    groups: dict[str, list[int]] = {}
    for code in codes:
        groups.setdefault(follow(judge(code)), []).append(code)
    lines = ["| Answer | What follows |", "|---|---|"]
    return "\n".join([*lines, *(f"| {ranges(found)} | {way} |" for way, found in groups.items())])


def ranges(codes: list[int]) -> str:
    runs: list[list[int]] = []
    for code in codes:
        if runs and code == runs[-1][-1] + 1:
            runs[-1].append(code)
        else:
            runs.append([code])
    named = [
        [f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(code) for code in run] for run in runs
    ]
    return ", ".join(name for run in named for name in run)


def of_whatsapp(code: int) -> Outcome:
    outcome = whatsapp_replies.judge_code(code, "", template="t")
    assert outcome is not None
    return outcome


def of_twilio(code: int) -> Outcome:
    outcome = twilio_replies.judge_code(code, "")
    assert outcome is not None
    return outcome


def tables() -> dict[str, str]:
    """Every table by its heading."""
    return {
        "SMTP": table(range(200, 600), lambda code: judge_reply(Reply(code, ""), MAIL)),
        "SendGrid and other services over HTTP": table(
            range(300, 600), lambda code: judge_status(code, {}, "")
        ),
        "WhatsApp Cloud API": table(sorted(whatsapp_replies.RULES), of_whatsapp),
        "Twilio": table(sorted(twilio_replies.RULES), of_twilio),
    }


@pytest.mark.parametrize("heading", list(tables()))
def test_the_table_is_the_one_in_the_code(heading: str) -> None:
    section = PAGE.read_text().partition(f"### {heading}\n")[2].partition("\n### ")[0]
    assert tables()[heading] in section


def in_short(outcome: Outcome) -> str:
    """How the page of a channel says in few words what `follow` says in many."""
    match outcome.verdict:
        case Verdict.PERMANENT:
            return "suppressed" if outcome.suppress else "dead letter"
        case Verdict.HOLD:
            return "the kind waits" if outcome.holds else "the channel stops"
    return "again"


@pytest.mark.parametrize(
    ("page", "known", "judge"),
    [
        ("whatsapp.md", whatsapp_replies.RULES, of_whatsapp),
        ("sms.md", twilio_replies.RULES, of_twilio),
    ],
)
def test_the_short_table_of_a_channel_agrees(
    page: str, known: Collection[int], judge: Callable[[int], Outcome]
) -> None:
    rows = re.findall(r"^\| (.*?\d.*?) \| (.*) \|$", (PAGE.parent / page).read_text(), re.MULTILINE)
    told = [(int(code), way) for codes, way in rows for code in re.findall(r"(?<!\()\b\d+", codes)]
    assert len([code for code, _way in told if code in known]) > 5
    wrong = [code for code, way in told if code in known and in_short(judge(code)) not in way]
    assert wrong == []


def test_the_numbers_are_the_defaults() -> None:
    told = PAGE.read_text()
    policy = BreakerPolicy()
    assert conf.DEFAULTS["BREAKER"] == {
        "FAILURES": policy.failures,
        "BASE": policy.base,
        "LONGEST": policy.longest,
        "PATIENCE": policy.patience,
    }
    for words in (
        f"`FAILURES` ({policy.failures})",
        f"`BASE` ({policy.base:g} s)",
        f"`LONGEST` ({policy.longest:g} s)",
        f"`PATIENCE` ({spell(policy.patience)})",
    ):
        assert words in told


if __name__ == "__main__":
    for heading, printed in tables().items():
        sys.stdout.write(f"### {heading}\n\n{printed}\n\n")
