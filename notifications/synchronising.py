"""Copies of what providers know: the templates they have approved, the addresses they refuse.

A copy may lag behind, so nothing depends on it: templates are compared with what code declares,
and a refused address that is not known here yet is refused by the provider.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from django.db import router, transaction
from django.utils import timezone

from notifications import conf, suppressions
from notifications.models import RegisteredTemplate
from notifications.providers.base import Provider
from notifications.suppressions import REASONS, Unwanted

T = TypeVar("T")

BATCH = 500  # rows of one statement


def providers() -> list[Provider[Any]]:
    """The providers in use that have something to copy."""
    return [
        each
        for each in conf.providers().values()
        if type(each).read_templates is not Provider.read_templates
        or type(each).read_suppressions is not Provider.read_suppressions
    ]


def synchronise(provider: Provider[Any]) -> dict[str, int]:
    """Copy what `provider` knows; how many "templates" and "suppressions" it has.

    Raises what its client raises; what was copied until then stays.
    """
    return {
        "templates": _copy_templates(provider.name, list(provider.read_templates())),
        "suppressions": _copy_suppressions(provider),
    }


def _copy_templates(provider: str, told: Iterable[Mapping[str, Any]]) -> int:
    now = timezone.now()
    rows = {
        (str(each["name"]), str(each["language"])): RegisteredTemplate(
            provider=provider,
            name=str(each["name"]),
            language=str(each["language"]),
            status=str(each.get("status", "")),
            category=str(each.get("category", "")),
            named=each.get("parameter_format") == "NAMED",
            components=each.get("components", []),
            synchronised_at=now,
        )
        for each in told
    }
    using = router.db_for_write(RegisteredTemplate)
    ours = RegisteredTemplate.objects.using(using)
    with transaction.atomic(using=using):
        known = ours.filter(provider=provider).values_list("pk", "name", "language")
        gone = [pk for pk, name, language in known if (name, language) not in rows]
        ours.filter(pk__in=gone).delete()
        ours.bulk_create(
            rows.values(),
            batch_size=BATCH,
            update_conflicts=True,
            unique_fields=["provider", "name", "language"],
            update_fields=["status", "category", "named", "components", "synchronised_at"],
        )
    return len(rows)


def _copy_suppressions(provider: Provider[Any]) -> int:
    """Addresses that leave the provider's list stay suppressed here: a person may lift that."""
    [channel] = provider.channels if len(provider.channels) == 1 else [""]
    source = f"list of {provider.name}"
    count = 0
    for page in _batches(provider.read_suppressions()):
        suppressions.add(
            Unwanted(channel, address, REASONS[fate], source) for fate, address in page
        )
        count += len(page)
    return count


def _batches(each: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(each)
    while batch := list(islice(rest, BATCH)):
        yield batch
