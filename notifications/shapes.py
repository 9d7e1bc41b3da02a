"""What each setting of NOTIFICATIONS may be: one table, walked by one check (E001).

A shape finds what is wrong with a value, and says what to write instead; it never raises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from notifications import conf
from notifications.models import State


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and what to do about it."""

    text: str
    hint: str


class Shape(Protocol):
    """What a value may be."""

    def problems(self, value: Any, where: str) -> Iterator[Problem]:
        """What is wrong with `value`, which stands at `where`: "['RETRY']['BASE']"."""


@dataclass(frozen=True, slots=True)
class One:
    """A single value."""

    fits: Callable[[Any], bool]
    wanted: str  # "must be …"
    hint: str
    secret: bool = False  # its value is not shown

    def problems(self, value: Any, where: str) -> Iterator[Problem]:
        """One, if it does not fit."""
        if not self.fits(value):
            shown = f"a value of type {type(value).__name__}" if self.secret else repr(value)
            yield Problem(f"NOTIFICATIONS{where} must be {self.wanted}, not {shown}.", self.hint)


@dataclass(frozen=True, slots=True)
class Table:
    """A dict with these keys; what is left out has a default, unless it is needed."""

    shapes: Mapping[str, Shape]
    needed: Collection[str] = ()

    def problems(self, value: Any, where: str) -> Iterator[Problem]:
        """Those of its entries, and the keys that it should not or should have."""
        if not isinstance(value, Mapping):
            yield Problem(
                f"NOTIFICATIONS{where} must be a dict, not {value!r}."
                if where
                else "NOTIFICATIONS must be a dict.",
                f"Its keys are {', '.join(self.shapes)}; leave it out for the defaults.",
            )
            return
        for name in sorted(value.keys() - self.shapes.keys(), key=str):
            yield Problem(
                f"NOTIFICATIONS{where} has no setting {name!r}; there are: "
                f"{', '.join(self.shapes)}.",
                _advise(name, self.shapes),
            )
        for name in self.needed:
            if name not in value:
                yield Problem(
                    f"NOTIFICATIONS{where} lacks {name!r}.", f"Add {name!r}: there is no default."
                )
        for name, shape in self.shapes.items():
            if name in value:
                yield from shape.problems(value[name], f"{where}[{name!r}]")


@dataclass(frozen=True, slots=True)
class Each:
    """A dict whose keys are names of the project's own, with an entry like this under each."""

    shape: Shape
    example: str

    def problems(self, value: Any, where: str) -> Iterator[Problem]:
        """Those of its entries."""
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            yield Problem(
                f"NOTIFICATIONS{where} must be a dict with a name for each entry, not {value!r}.",
                f"For example {self.example}.",
            )
            return
        for name, entry in value.items():
            yield from self.shape.problems(entry, f"{where}[{name!r}]")


def problems(settings: Any) -> Iterator[Problem]:
    """What is wrong with the dict NOTIFICATIONS."""
    yield from SETTINGS.problems(settings, "")


def _advise(name: object, known: Collection[str]) -> str:
    close = get_close_matches(str(name).upper(), known) or get_close_matches(str(name), known)
    return f"Did you mean {close[0]!r}?" if close else "Leave it out, or mend its name."


# -- single values --------------------------------------------------------------------------------


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.strip() == value != ""


def _are_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_name, value))


def _is_duration(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        return conf.parse_duration(value).total_seconds() >= 0
    except (ImproperlyConfigured, TypeError, ValueError, OverflowError):
        return False


def _is_kept(value: Any) -> bool:
    try:
        age = conf.parse_retention(value).age
    except (ImproperlyConfigured, TypeError, ValueError, OverflowError):
        return False
    return age is None or age.total_seconds() >= 0


def _is_rate(value: Any) -> bool:
    try:
        conf.parse_rate(value)
    except (ImproperlyConfigured, TypeError):
        return False
    return value is None or isinstance(value, str)


def _is_address(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and "." in value.strip(".")


def _is_rule(value: Any) -> bool:
    """Whether it says who may be written to."""
    if isinstance(value, Mapping):
        redirect = value.get("REDIRECT")
        return value.keys() == {"REDIRECT"} and isinstance(redirect, Mapping)
    return value is None or isinstance(value, str) or _are_names(value)


SECONDS = One(
    lambda value: _is_number(value) and value > 0,
    "a number above 0",
    "Write a number of seconds, such as 30.0.",
)
MAYBE_SECONDS = One(
    lambda value: _is_number(value) and value >= 0,
    "a number of seconds, or 0 for none",
    "Write a number, such as 30.0, or 0.",
)
SOME = One(
    lambda value: _is_whole(value) and value >= 1,
    "a whole number above 0",
    "Write a whole number, such as 5.",
)
COUNT = One(
    lambda value: _is_whole(value) and value >= 0,
    "a whole number, 0 or more",
    "Write a whole number, such as 10.",
)
DURATION = One(
    _is_duration,
    "a duration",
    'Write a number and a unit: "90s", "5m", "12h" or "30d".',
)
MAYBE_DURATION = One(
    lambda value: value is None or _is_duration(value),
    "a duration, or None",
    'Write a number and a unit: "90s", "5m", "12h" or "30d"; or None, for ever.',
)
KEPT = One(
    _is_kept,
    "a duration, a number of rows, or None",
    'Write "30d", {"COUNT": 1000} or {"AGE": "30d", "COUNT": 1000}; or None, for ever.',
)
RATE = One(
    _is_rate,
    "a rate",
    'Write a whole number above 0 and a unit: "10/s", "300/m"; "" for no limit.',
)
FLAG = One(lambda value: isinstance(value, bool), "True or False", "Write True or False.")
TEXT = One(_is_text, "a string", 'Write a string; "" where there is none.')
SECRET = One(
    lambda value: isinstance(value, str | bytes),
    "a string",
    'Write a string; "" where there is none.',
    secret=True,
)
NAME = One(_is_name, "a name", 'Write a name, such as "default".')
NAMES = One(_are_names, "a list of names", 'Write a list, such as ["default"].')
PATTERNS = One(_are_names, "a list of address patterns", 'Write a list, such as ["*@example.com"].')
ADDRESSES = One(_are_names, "a list of addresses", 'Write a list, such as ["+12025550123"].')
PATH = One(
    _is_path, "the dotted path of a class", 'Write where it is, such as "shop.fax.FaxChannel".'
)
WEBHOOK = One(
    lambda value: value == "" or _is_address(value),
    "an address that begins with https://",
    'Write all of it, such as "https://hooks.example.com/…"; "" for none.',
    secret=True,  # whoever knows it may post
)
ORIGIN = One(
    lambda value: value == "" or _is_address(value),
    "the origin of the site, with https://",
    'Write it as browsers do: "https://shop.example".',
)
RECIPIENTS = One(
    _is_rule,
    '"*", a list of address patterns or {"REDIRECT": {"email": "me@example.com"}}',
    'Write ["*@example.com"], say; None: nobody outside production.',
)
ENVIRONMENT = One(
    lambda value: value is None or _is_text(value),
    "a name, or None",
    'Write a name, such as "staging"; None: by DEBUG.',
)
BACKOFF = One(
    lambda value: value in ("exponential", "fixed"),
    '"exponential" or "fixed"',
    'Write "exponential": each wait is twice the one before.',
)
OPTIONS = One(lambda value: isinstance(value, Mapping), "a dict", "Write {} for none.", secret=True)

# -- the table ------------------------------------------------------------------------------------

CHANNEL = Table(
    {
        "BACKEND": PATH,
        "QUEUE": NAME,
        "PROVIDERS": NAMES,
        "RATE": RATE,
        "CONCURRENCY": SOME,
        "TIMEOUT": SECONDS,
    }
)
PROVIDER = Table({"BACKEND": PATH, "OPTIONS": OPTIONS}, needed=("BACKEND",))

SETTINGS = Table(
    {
        "ENVIRONMENT": ENVIRONMENT,
        "RECIPIENTS": RECIPIENTS,
        "CHANNELS": Each(CHANNEL, '{"email": {}, "in_app": {}}'),
        "PROVIDERS": Each(PROVIDER, '{"fax": {"BACKEND": "shop.fax.Fax", "OPTIONS": {}}}'),
        "RETRY": Table(
            {
                "RETRIES": COUNT,
                "BACKOFF": BACKOFF,
                "BASE": MAYBE_SECONDS,
                "JITTER": MAYBE_SECONDS,
                "LONGEST": MAYBE_SECONDS,
            }
        ),
        "BREAKER": Table(
            {"FAILURES": SOME, "BASE": SECONDS, "LONGEST": SECONDS, "PATIENCE": MAYBE_SECONDS}
        ),
        "ALERTS": Table(
            {
                "MAIL": One(
                    lambda value: value == "" or _is_path(value),
                    "the dotted path of an email backend",
                    'Write "django.core.mail.backends.smtp.EmailBackend", say; "" for no mail.',
                ),
                "WEBHOOK": WEBHOOK,
                "CHANNELS": Each(ADDRESSES, '{"sms": ["+12025550123"]}'),
                "EVERY": DURATION,
            }
        ),
        "LEASE": SECONDS,
        "CLAIM": SOME,
        "SLICE": SECONDS,
        "CLOCK": SECONDS,
        "TASK_QUEUE": NAME,
        "TASK_QUEUES": NAMES,
        "TASK_TIMEOUT": SECONDS,
        "LONGEST_TASK": SECONDS,
        "STRICT": FLAG,
        "BACKLOG_AGE": MAYBE_DURATION,
        "UNKNOWN_AFTER": MAYBE_DURATION,
        "HEALTH": Table(
            {
                "FAILED": COUNT,
                "DLQ": COUNT,
                "WAITING": COUNT,
                "STALLED": COUNT,
                "OLDEST": DURATION,
                "CLOCK": DURATION,
                "RATE": RATE,
            }
        ),
        "REPORT": MAYBE_SECONDS,
        "REST": Table({"RATE": RATE, "TEST_RATE": RATE, "TEST_RECIPIENTS": PATTERNS}),
        "METRICS_TOKEN": One(
            _is_text, "a string", 'Write a long random string; "": nobody may.', secret=True
        ),
        "SUPPRESSION_KEY": SECRET,
        "FRONTEND_URL": ORIGIN,
        "FROM_EMAIL": TEXT,
        "ERASE_AFTER": MAYBE_DURATION,
        "RETENTION": Table({state.value: KEPT for state in State if state is not State.PENDING}),
    }
)
