"""Take personal data and secrets out of what is kept for people to read."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable

_PATTERNS = (
    # Addresses, also as they stand in provider answers: <a@b.c>, "a@b.c".
    (re.compile(r"<?[^\s<>\"'(),;:=\[\]]+@[^\s<>\"'(),;:\[\]]+>?"), "<address>"),
    (re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>]*"), r"\1?<query>"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+"), r"\1 <secret>"),
    (re.compile(r"\+?\d(?:[\s().-]?\d){8,14}(?!\d)"), "<number>"),
    # What is this long and unbroken is a token or a key, not a word.
    (re.compile(r"[A-Za-z0-9_\-+/=.]*[A-Za-z][A-Za-z0-9_\-+/=]{23,}[\w\-+/=.]*"), "<token>"),
)


def scrub(text: str, *, limit: int = 300) -> str:
    """`text` on one line, at most `limit` characters, without addresses, numbers and tokens."""
    line = storable(" ".join(text.split()))
    for pattern, stand_in in _PATTERNS:
        line = pattern.sub(stand_in, line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def storable(text: str) -> str:
    """`text` with question marks for what does not print: no database stores half a surrogate
    pair, and PostgreSQL no NUL, both of which may come with a provider's JSON."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text)


def mask(address: str) -> str:
    """Enough of an address to recognise, not enough to use: `a…@e….com`."""
    local, at, domain = address.partition("@")
    if not at:
        return f"{address[:3]}…{address[-2:]}" if len(address) > 6 else "…"
    name, dot, top = domain.rpartition(".")
    return f"{local[:1]}…@{name[:1]}…{dot}{top}"


def blot(text: str, private: Iterable[str], *, limit: int = 300) -> str:
    """`text` as `scrub` leaves it, and without any of `private`, whatever their case."""
    for each in sorted(private, key=len, reverse=True):
        if len(each) > 2:
            text = re.sub(re.escape(each), "…", text, flags=re.IGNORECASE)
    return scrub(text, limit=limit)


def unquote(text: str, said: Iterable[str]) -> str:
    """`text` without what it quotes of what was `said`: three words in a row, and single ones that
    look like a code or a number. Filters tell so what they dislike."""
    given = text.split()
    words = [_core(word) for word in given]
    heard = f" {' '.join(_core(word) for each in said for word in each.split())} ".casefold()
    kept: list[str] = []
    place = 0
    while place < len(words):
        end = place
        while end < len(words) and f" {' '.join(words[place : end + 1])} ".casefold() in heard:
            end += 1
        word = words[place]
        if end - place >= 3 or (_is_telling(word) and word.casefold() in heard):
            kept.append("…")
            place = max(end, place + 1)
        else:
            kept.append(given[place])
            place += 1
    return " ".join(kept)


def _core(word: str) -> str:
    return word.strip("\"'`.,:;!?()<>[]{}«»„“”")


def _is_telling(word: str) -> bool:
    return len(word) > 3 and (word[1:] != word[1:].lower() or any(map(str.isdigit, word)))


def describe(error: BaseException) -> str:
    """The error's class and scrubbed message."""
    return f"{type(error).__qualname__}: {scrub(str(error))}".rstrip(": ")


def safe_traceback(error: BaseException) -> str:
    """The stack trace with source lines but without local values, the message scrubbed."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"Traceback (most recent call last):\n{frames}{describe(error)}"
