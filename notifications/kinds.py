"""What a notification is: the class that says its channels, category, priority and templates.

A kind lives in `<app>/notifications.py` of the app that owns the fact and is found by
autodiscovery. Declaring the class registers it under its `name`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from django.core.exceptions import ImproperlyConfigured

from notifications.errors import UnknownKind
from notifications.models.work import Priority
from notifications.retries import RetryPolicy

if TYPE_CHECKING:
    from notifications.channels.whatsapp_template import Declared
    from notifications.models import Notification

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_registry: dict[str, type[Kind]] = {}


class Fallback(tuple[str, ...]):
    """Channels of a kind, one instead of the other: `Fallback("whatsapp", "sms", "email")`.

    The first that the recipient has an address for is used; when it cannot reach them, the next. A
    plain tuple means each of its channels, and may have a Fallback in the place of one:
    `("email", Fallback("whatsapp", "sms"))`.
    """

    __slots__ = ()

    def __new__(cls, *channels: str) -> Fallback:
        return super().__new__(cls, channels)


Channels: TypeAlias = Sequence[str | Fallback]


def ways(channels: Channels) -> list[tuple[str, ...]]:
    """One entry for each message: its channels, of which the first that can carries it."""
    if isinstance(channels, Fallback):
        return [channels]
    return [(each,) if isinstance(each, str) else each for each in channels]


class Kind:
    """Subclass it, give it a `name`, and put its templates under `notifications/<name>/`.

    Email templates are `email.subject.txt`, `email.txt` and `email.html` there; text is rendered
    without autoescaping, HTML with it. WhatsApp templates are Meta's; `whatsapp` says which, and
    what goes into them.

    A message goes out on each of `channels` that is configured and on which the recipient has an
    address.
    """

    name: ClassVar[str] = ""  # letters, digits, _ . -; stable: rows and templates refer to it
    channels: ClassVar[Channels] = ("email",)
    category: ClassVar[str] = "transactional"
    priority: ClassVar[Priority] = Priority.NORMAL
    expires_after: ClassVar[timedelta | None] = None  # too late to be useful after this
    retry: ClassVar[RetryPolicy | None] = None  # None: NOTIFICATIONS["RETRY"]
    secret: ClassVar[bool] = False  # `prepare` makes a secret: previews show the sample instead
    whatsapp: ClassVar[Declared] = ()  # of several, the first whose `when` says yes
    at_most_once: ClassVar[bool] = False  # True: an unknown outcome waits for a receipt or a person

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.name:
            return
        if not _NAME.fullmatch(cls.name):
            raise ImproperlyConfigured(
                f"{cls.__module__}.{cls.__qualname__} is named {cls.name!r}. The name of a kind "
                "is part of paths: use letters, digits, underscores, dots and dashes only."
            )
        known = _registry.get(cls.name)
        if known is not None and (known.__module__, known.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise ImproperlyConfigured(
                f"Two kinds are named {cls.name!r}: {known.__module__}.{known.__qualname__} and "
                f"{cls.__module__}.{cls.__qualname__}. Give one of them another name."
            )
        _registry[cls.name] = cls

    @classmethod
    def channel_names(cls) -> set[str]:
        """Every channel it may go out on."""
        return {name for way in ways(cls.channels) for name in way}

    @classmethod
    def prepare(cls, batch: Sequence[Notification]) -> Iterable[Mapping[str, Any]]:
        """The template context of each row of `batch`, in its order.

        Called at send time, once for all rows of a claim, so that what they are about can be
        loaded with a few queries instead of a few for each. The default is the stored context.
        A secret (reset link, code) is made here, and lives in no row.
        """
        return [row.context for row in batch]

    @classmethod
    def sample(cls) -> Mapping[str, Any]:
        """A made-up context for previews and test messages."""
        return {}

    @classmethod
    def link(cls, row: Notification, context: Mapping[str, Any]) -> str:
        """Where its in-app and push messages lead: a path of the site, http(s), or empty.

        `context` is what `prepare` gave for the row.
        """
        return ""

    @classmethod
    def sender(cls, row: Notification) -> str:
        """The From header of its emails; empty for NOTIFICATIONS["FROM_EMAIL"]."""
        return ""

    @classmethod
    def reply_to(cls, row: Notification) -> tuple[str, ...]:
        """The Reply-To addresses of its emails."""
        return ()

    @classmethod
    def headers(cls, row: Notification) -> Mapping[str, str]:
        """More headers for its emails."""
        return {}


# The stored context of a test message: it shows the kind's sample, and loads nothing.
SAMPLE: Mapping[str, Any] = {"sample": True}


def prepare(kind: type[Kind], batch: Sequence[Notification]) -> list[Mapping[str, Any]]:
    """The template context of each row of `batch`, in its order; test messages get the sample."""
    real = [row for row in batch if row.context != SAMPLE]
    given = iter(kind.prepare(real) if real else ())
    return [kind.sample() if row.context == SAMPLE else next(given) for row in batch]


def get_kind(name: str) -> type[Kind]:
    """The kind registered as `name`. Raises UnknownKind."""
    try:
        return _registry[name]
    except KeyError:
        raise UnknownKind(
            f"No kind named {name!r} is registered. Kinds are declared in <app>/notifications.py "
            "of an installed app."
        ) from None


def all_kinds() -> dict[str, type[Kind]]:
    """Every registered kind by name, sorted by name."""
    return dict(sorted(_registry.items()))
