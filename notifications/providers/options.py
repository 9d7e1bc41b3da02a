"""System checks that the providers over HTTP have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Caution

from notifications.providers.base import Provider

_LOCAL = ("localhost", "127.0.0.1", "::1")


def check_options(
    provider: Provider[Any],
    *,
    known: Collection[str],
    needed: Sequence[str],
    where: str,
    wanted: Mapping[str, str],
    api_url: str,
) -> list[CheckMessage]:
    """What is wrong with a provider's OPTIONS.

    `known` are all names, `needed` those that must be there, which are found at `where`; `wanted`
    tells of others what is missed without them; `api_url` is where keys are sent.
    """
    found: list[CheckMessage] = []
    unknown = sorted(set(provider.options) - set(known))
    if unknown:
        found.append(
            Error(
                f"The provider {provider.name!r} has unknown options: {', '.join(unknown)}.",
                hint=f"It knows {', '.join(sorted(known))}.",
                id="notifications.E060",
            )
        )
    missing = [name for name in needed if not provider.options.get(name)]
    if missing:
        found.append(
            Error(
                f"The provider {provider.name!r} lacks {' and '.join(missing)}.",
                hint=where,
                id="notifications.E061",
            )
        )
    address = urlsplit(api_url)
    if not address.hostname or not (address.scheme == "https" or address.hostname in _LOCAL):
        found.append(
            Error(
                f"The provider {provider.name!r} would send its token without TLS.",
                hint="API_URL begins with https://; leave it out for the usual address.",
                id="notifications.E062",
            )
        )
    found += [
        Caution(
            f"The provider {provider.name!r} has no {name}: {consequence}.",
            hint="The page of its channel in docs/ tells where to find it.",
            id="notifications.W060",
        )
        for name, consequence in wanted.items()
        if not provider.options.get(name)
    ]
    return found
