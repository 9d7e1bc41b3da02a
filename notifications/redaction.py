"""Take personal data and secrets out of what is kept for people to read."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from uuid import UUID

from django.db import DatabaseError, InterfaceError
from django.template import VariableDoesNotExist

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


def describe(error: BaseException, *, private: Iterable[object] = (), silent: bool = False) -> str:
    """The error's class and what it said, scrubbed, without what it quotes of the values in
    `private`; `silent`: the class alone."""
    said = ""
    if not silent:
        values = set(_values(private))
        quoted = {repr(each)[1:-1] for each in values}
        said = blot(unquote(_said(error), values), values | quoted)
    return f"{type(error).__qualname__}: {said}".rstrip(": ")


def safe_traceback(
    error: BaseException, *, private: Iterable[object] = (), silent: bool = False
) -> str:
    """The stack trace with source lines but without local values, ending as `describe` has it."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    ending = describe(error, private=private, silent=silent)
    return f"Traceback (most recent call last):\n{frames}{ending}"


def _said(error: BaseException) -> str:
    """What an error says, without the values that its class is known to add."""
    if isinstance(error, VariableDoesNotExist):  # adds the template's whole context
        return f"Failed lookup for key [{next(iter(error.params), '')}]"
    if isinstance(error, DatabaseError | InterfaceError) or hasattr(error, "sqlstate"):
        return _said_by_database(error)
    return str(error)


def _said_by_database(error: BaseException) -> str:
    """PostgreSQL's code and the first line: the others quote the row that was refused."""
    line = str(error).partition("\n")[0]
    # Django's own errors have the driver's as their cause.
    state = getattr(error, "sqlstate", None) or getattr(error.__cause__, "sqlstate", None) or ""
    if state.startswith(_WRONG_DATA):  # the line itself quotes the value
        line = re.sub('".*"', '"…"', line)
    return f"{state} {line}".strip()


_WRONG_DATA = "22"  # class of PostgreSQL's codes


def _values(private: Iterable[object]) -> Iterator[str]:
    """The texts and numbers in nested values."""
    for each in private:
        if isinstance(each, Mapping):
            yield from _values(each.values())
        elif isinstance(each, list | tuple):
            yield from _values(each)
        elif isinstance(each, _QUOTABLE) and not isinstance(each, bool):
            yield str(each)


_QUOTABLE = (str, int, float, Decimal, date, time, UUID)  # of other objects, text is code that runs


@dataclass(frozen=True, slots=True)
class Trace:
    """What may be kept of a stack trace that only exists as text."""

    places: str  # where it happened; of exceptions that led to the last one the classes alone
    kind: str  # the class of the last exception; empty where the text is no stack trace
    message: str  # one line of what the last exception said, scrubbed


_HEAD = re.compile(r"(Exception Group )?Traceback \(most recent call last\):")
_FRAME = re.compile(
    r' {2}File ".*", line \d+, in .+| {2}\[Previous line repeated \d+ more times?\]'
)
_CLASS = re.compile(r"[^\W\d][\w.<>]*(?=:|$)")
_MARGIN = re.compile(r" *[|+] ?")  # of an exception group
_LINKS = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)


def read_traceback(text: str) -> Trace:
    """Keep the frames and their source lines; what exceptions say, on however many lines, may hold
    anything."""
    places: list[str] = []
    kind = said = ""
    in_frames = source_follows = False
    for line in text.splitlines():
        margin = _MARGIN.match(line)
        bare = line[margin.end() :] if margin else line
        if bare in _LINKS or _HEAD.fullmatch(bare):
            in_frames = bare not in _LINKS
            places += [kind, bare] if kind else [bare]
            kind = ""
        elif not in_frames:
            continue
        elif _FRAME.fullmatch(bare):
            places.append(bare)
            source_follows = True
        elif bare.startswith("    "):
            places += [bare] if source_follows else []
            source_follows = False
        elif named := _CLASS.match(bare):
            kind, said = named[0], bare
            in_frames = False
    if not kind:
        said = next(reversed(text.strip().splitlines()), "")
    return Trace("\n".join(places), kind, scrub(said))
