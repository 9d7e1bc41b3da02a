"""The settings: one NOTIFICATIONS dict over one table of defaults, read live.

`channel("email").rate` and the like are parsed once and parsed anew when the setting changes
(`setting_changed`, which Django's test tools send).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from notifications.breaker import BreakerPolicy
from notifications.channels.base import Channel
from notifications.errors import UnknownChannel
from notifications.providers.base import Provider
from notifications.retries import RetryPolicy

# What a project leaves out of the CHANNELS it names.
CHANNEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "email": {
        "BACKEND": "notifications.channels.email.EmailChannel",
        "QUEUE": "email",
        "PROVIDERS": ["smtp"],
        "RATE": "10/s",
        "CONCURRENCY": 5,
        "TIMEOUT": 10.0,
    },
    "in_app": {"BACKEND": "notifications.channels.in_app.InAppChannel"},
    "whatsapp": {
        "BACKEND": "notifications.channels.whatsapp.WhatsAppChannel",
        "QUEUE": "whatsapp",
        "PROVIDERS": ["whatsapp_cloud"],
        "RATE": "5/s",
        "CONCURRENCY": 3,
        "TIMEOUT": 10.0,
    },
    "sms": {
        "BACKEND": "notifications.channels.sms.SmsChannel",
        "QUEUE": "sms",
        "PROVIDERS": ["twilio"],
        "RATE": "5/s",
        "CONCURRENCY": 3,
        "TIMEOUT": 10.0,
    },
    "push": {
        "BACKEND": "notifications.channels.push.PushChannel",
        "QUEUE": "push",
        "PROVIDERS": ["webpush"],
        "RATE": "",
        "CONCURRENCY": 5,
        "TIMEOUT": 10.0,
    },
}

DEFAULTS: dict[str, Any] = {
    # The name of this installation. A database stamped with another one is held.
    # None: "development" under DEBUG, else "production".
    "ENVIRONMENT": None,
    # Who may be written to outside production: "*" for everybody, a list of address patterns
    # ("*@example.com"), or {"REDIRECT": {"email": "me@example.com"}}. None: nobody.
    "RECIPIENTS": None,
    # One entry a channel. BACKEND: its class. QUEUE: its RQ queue. PROVIDERS: the chain, first
    # choice first. RATE: "10/s", "300/m" or "" for none, shared by all workers. CONCURRENCY:
    # messages at once in each worker. TIMEOUT: seconds one provider call may take in all. What an
    # entry leaves out is in CHANNEL_DEFAULTS. in_app has a BACKEND alone: its messages stay where
    # they are, in the database.
    "CHANNELS": {"email": {}, "in_app": {}},
    # One entry a provider: BACKEND, a Provider class, and its OPTIONS.
    "PROVIDERS": {
        "smtp": {"BACKEND": "notifications.providers.smtp.Smtp", "OPTIONS": {}},
        "whatsapp_cloud": {
            "BACKEND": "notifications.providers.whatsapp_cloud.WhatsAppCloud",
            "OPTIONS": {},
        },
        "twilio": {"BACKEND": "notifications.providers.twilio.Twilio", "OPTIONS": {}},
        "webpush": {"BACKEND": "notifications.providers.webpush.WebPush", "OPTIONS": {}},
    },
    # Tries after the first, and the seconds before them; kinds, tasks and calls may differ.
    "RETRY": {"RETRIES": 3, "BACKOFF": "exponential", "BASE": 2.0, "JITTER": 0.1},
    # When a provider is left alone: after FAILURES troubles in a row, for BASE seconds and twice as
    # long after each vain probe, up to LONGEST. PATIENCE: seconds a message is kept through outages
    # without losing attempts.
    "BREAKER": {"FAILURES": 3, "BASE": 5.0, "LONGEST": 60.0, "PATIENCE": 86_400.0},
    # How the administrators are told that something is broken, beside the log; never over the
    # channel that broke. MAIL: the email backend that reaches settings.ADMINS past every queue; of
    # the channel "email" it tells if it takes another server than that.
    # WEBHOOK: a URL that takes {"text": …}. CHANNELS: {"sms": ["+49…"]}. EVERY: at most once for
    # each reason in this time.
    "ALERTS": {
        "MAIL": "django.core.mail.backends.smtp.EmailBackend",
        "WEBHOOK": "",
        "CHANNELS": {},
        "EVERY": "1h",
    },
    "LEASE": 30.0,  # seconds a claimed row belongs to its worker; a dead worker's rows go out then
    "CLAIM": 200,  # rows claimed at once, at most
    "SLICE": 5.0,  # seconds one RQ job serves its queues before it makes room
    "CLOCK": 1.0,  # seconds between the clock's looks at the database
    "TASK_QUEUE": "default",  # queue of tasks and event handlers that name none
    # The queues that carry only this app's jobs, beside TASK_QUEUE and those of the channels. Jobs
    # of the host's own belong in other queues: on these our Worker runs nothing else.
    "TASK_QUEUES": ["default", "documents", "maintenance"],
    "TASK_TIMEOUT": 25.0,  # seconds a task may run; below the lease, or the task sets its own
    "LONGEST_TASK": 600.0,  # seconds; no task may declare a longer timeout
    "STRICT": False,  # refuse publish() and notify() outside a transaction, instead of warning
    "BACKLOG_AGE": "3d",  # what should have gone out longer ago waits for a person; None: never
    # A message that nobody knows the fate of, and that must not go out twice, waits this long for a
    # receipt; then it is a dead letter. None: for ever.
    "UNKNOWN_AFTER": "1d",
    # When `health` has something to say of a queue: more than FAILED given up in a day, DLQ dead
    # letters, WAITING due rows, STALLED ones that a dead worker left behind and nobody took up, or
    # one that waits for longer than OLDEST. CLOCK: how long ago a worker's clock must have been
    # seen. RATE: how often strangers may ask health/, each address at each web process.
    "HEALTH": {
        "FAILED": 10,
        "DLQ": 10,
        "WAITING": 100,
        "STALLED": 0,
        "OLDEST": "5m",
        "CLOCK": "30s",
        "RATE": "60/m",
    },
    "REPORT": 30.0,  # seconds between a worker's log lines on its queues, while busy; 0: none
    # The REST API: how many requests a person may make, and how many test messages, those from the
    # admin included; whom these may go to beside the person who sends them, as address patterns
    # ("*@example.com").
    "REST": {"RATE": "600/m", "TEST_RATE": "10/m", "TEST_RECIPIENTS": []},
    # What GET metrics/ asks for as a bearer token; empty: nobody may.
    "METRICS_TOKEN": "",
    # Key of the hashes that suppressed addresses are kept as; empty: SECRET_KEY. With another key
    # they are not found: a former SECRET_KEY belongs into SECRET_KEY_FALLBACKS, or in here.
    "SUPPRESSION_KEY": "",
    "FRONTEND_URL": "",  # origin of absolute links in messages: workers have no request
    "FROM_EMAIL": "",  # From header; empty: DEFAULT_FROM_EMAIL
    # How long after its end a message keeps its recipient, its context and the provider's ids;
    # None: as long as the row. Dead letters keep theirs until somebody decides, inboxes until
    # RETENTION.
    "ERASE_AFTER": "14d",
    # How long each settled state is kept (None: for ever): rows are removed every hour, and by
    # `notifications_clean`. Or how many, or both: {"AGE": "30d", "COUNT": 100_000} keeps of the
    # messages and of the tasks in that state the newest 100,000 that are no older than 30 days.
    # What is left out keeps the age it has here.
    "RETENTION": {
        "sent": "30d",
        "delivered": "30d",
        "read": "30d",
        "done": "2d",
        "cancelled": "30d",
        "expired": "30d",
        "suppressed": "30d",
        "bounced": "90d",
        "complained": "90d",
        "unknown": "90d",
        "dead": "90d",
    },
}

# What a project leaves out of these has its default all the same.
_FILLED = ("PROVIDERS", "RETRY", "BREAKER", "ALERTS", "HEALTH", "REST", "RETENTION")

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` messages in `seconds`."""

    limit: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of the rows in one state; None for no limit."""

    age: timedelta | None
    count: int | None  # of each table, the newest ones


@dataclass(frozen=True, slots=True)
class ChannelConf:
    """One entry of CHANNELS, parsed."""

    name: str
    channel: Channel
    queue: str  # empty where nothing is sent
    providers: tuple[Provider[Any], ...]
    rate: Rate | None
    concurrency: int
    timeout: float  # seconds


def get(name: str) -> Any:
    """The value of one setting, or its default. Raises ImproperlyConfigured for an unknown name."""
    if name not in DEFAULTS:
        raise ImproperlyConfigured(f"NOTIFICATIONS has no setting {name!r}.")
    value = _user().get(name, DEFAULTS[name])
    # One that is no dict stays what it is: the check E001 tells.
    filled = name in _FILLED and isinstance(value, Mapping)
    return {**DEFAULTS[name], **value} if filled else value


def environment() -> str:
    """The name of this installation."""
    return str(get("ENVIRONMENT") or ("development" if settings.DEBUG else "production"))


def parse_duration(value: str | float | timedelta) -> timedelta:
    """`"30d"`, `"12h"`, `"5m"`, `"90s"`, seconds or a timedelta. Raises ImproperlyConfigured."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, (int, float)):
        return timedelta(seconds=value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", value)
    if not match:
        raise ImproperlyConfigured(
            f'{value!r} is no duration. Write a number and a unit: "90s", "5m", "12h" or "30d".'
        )
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def parse_retention(value: Any) -> Retention:
    """A duration, `{"AGE": "30d", "COUNT": 1000}`, one of the two, or None for all. Raises
    ImproperlyConfigured."""
    given = value if isinstance(value, Mapping) else {"AGE": value}
    age, count = given.get("AGE"), given.get("COUNT")
    whole = isinstance(count, int) and not isinstance(count, bool) and count >= 0
    if not given.keys() <= {"AGE", "COUNT"} or not (count is None or whole):
        raise ImproperlyConfigured(
            f'{value!r} says neither how long nor how many: write "30d", '
            '{"AGE": "30d", "COUNT": 1000} or {"COUNT": 1000}.'
        )
    return Retention(None if age is None else parse_duration(age), count)


def parse_rate(value: str | None) -> Rate | None:
    """`"10/s"`, `"300/m"`, `"1000/h"`; None for an empty value. Raises ImproperlyConfigured."""
    if not value:
        return None
    match = re.fullmatch(r"\s*(\d+)\s*/\s*([smhd])\s*", value)
    if not match or int(match[1]) < 1:
        raise ImproperlyConfigured(
            f'{value!r} is no rate. Write a whole number above 0 and a unit: "10/s", "300/m"; '
            "leave it empty for no limit."
        )
    return Rate(int(match[1]), _UNITS[match[2]])


def retry_policy() -> RetryPolicy:
    """The retry policy of everything that has none of its own."""
    return _parsed_retry()


def breaker_policy() -> BreakerPolicy:
    """When providers are left alone. Raises ImproperlyConfigured."""
    return _parsed_breaker()


def channels() -> Mapping[str, ChannelConf]:
    """Every configured channel by name."""
    return _parsed_channels()


def channel(name: str) -> ChannelConf:
    """One configured channel. Raises UnknownChannel."""
    try:
        return channels()[name]
    except KeyError:
        raise UnknownChannel(
            f"No channel {name!r} in NOTIFICATIONS['CHANNELS']; there are: "
            f"{', '.join(channels()) or 'none'}."
        ) from None


def channel_of_queue(queue: str) -> ChannelConf | None:
    """The channel whose messages wait in `queue`, or None for a queue of tasks."""
    return next((conf for conf in channels().values() if conf.queue == queue), None)


def providers() -> Mapping[str, Provider[Any]]:
    """Every provider that a channel uses, by name."""
    return {each.name: each for conf in channels().values() for each in conf.providers}


def provider(name: str) -> Provider[Any]:
    """One configured provider, whichever channel it serves. Raises ImproperlyConfigured."""
    try:
        return providers()[name]
    except KeyError:
        raise ImproperlyConfigured(f"No channel uses a provider named {name!r}.") from None


def owns_queue(queue: str) -> bool:
    """Whether `queue` carries this app's rings: a channel's queue, or one of TASK_QUEUES."""
    return channel_of_queue(queue) is not None or queue in {get("TASK_QUEUE"), *get("TASK_QUEUES")}


def queue_names() -> tuple[str, ...]:
    """Every queue this project's RQ_QUEUES knows, in its order."""
    return tuple(getattr(settings, "RQ_QUEUES", {}))


def _user() -> dict[str, Any]:
    return getattr(settings, "NOTIFICATIONS", {})


@cache
def _parsed_retry() -> RetryPolicy:
    raw = get("RETRY")
    try:
        return RetryPolicy(**{name.lower(): value for name, value in raw.items()})
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"NOTIFICATIONS['RETRY']: {error}") from error


@cache
def _parsed_breaker() -> BreakerPolicy:
    raw = get("BREAKER")
    try:
        return BreakerPolicy(**{name.lower(): value for name, value in raw.items()})
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"NOTIFICATIONS['BREAKER']: {error}") from error


@cache
def _parsed_channels() -> dict[str, ChannelConf]:
    return {name: _parse_channel(name, entry) for name, entry in get("CHANNELS").items()}


def _parse_channel(name: str, chosen: Mapping[str, Any]) -> ChannelConf:
    base = CHANNEL_DEFAULTS.get(name, {})
    raw = {"QUEUE": name, "RATE": "", "CONCURRENCY": 5, "TIMEOUT": 10.0, **base, **chosen}
    timeout = float(raw["TIMEOUT"])
    try:
        channel: Channel = import_string(raw["BACKEND"])()
        return ChannelConf(
            name=name,
            channel=channel,
            queue="" if channel.kept else str(raw["QUEUE"]),
            providers=tuple(_build_provider(each, timeout) for each in raw.get("PROVIDERS", ())),
            rate=parse_rate(raw["RATE"]),
            concurrency=max(1, int(raw["CONCURRENCY"])),
            timeout=timeout,
        )
    except KeyError as error:
        raise ImproperlyConfigured(
            f"NOTIFICATIONS['CHANNELS'][{name!r}] lacks {error.args[0]!r}."
        ) from error
    except (ImportError, ValueError, TypeError, ImproperlyConfigured) as error:
        raise ImproperlyConfigured(f"NOTIFICATIONS['CHANNELS'][{name!r}]: {error}") from error


def _build_provider(name: str, timeout: float) -> Provider[Any]:
    known = get("PROVIDERS")
    if name not in known:
        raise ImproperlyConfigured(
            f"no provider {name!r} in NOTIFICATIONS['PROVIDERS']; there are: {', '.join(known)}"
        )
    entry = known[name]
    backend: type[Provider[Any]] = import_string(entry["BACKEND"])
    return backend(name, timeout=timeout, options=entry.get("OPTIONS", {}))


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting in ("NOTIFICATIONS", "RQ_QUEUES", "DEBUG") or setting.startswith("EMAIL"):
        _parsed_retry.cache_clear()
        _parsed_breaker.cache_clear()
        _parsed_channels.cache_clear()


setting_changed.connect(_forget)
