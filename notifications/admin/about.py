"""What rows are about: the host's own objects, shown and found through the host's own admin.

A row knows the label of a model and a primary key. People know an order by its number: that is
what `str(order)` says and what the list of orders in the admin searches. Both are asked there,
with the rights a person has there; nothing is stored twice, and nothing is told to somebody who
may not see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.utils import quote
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from notifications.models import Notification, Work

FOUND = 1000  # objects of one model that a search brings up
TYPES = 50  # models that rows are about

NOTHING = "–"


def describe_abouts(
    rows: Iterable[Work], *, site: AdminSite, request: HttpRequest
) -> list[SafeString | str]:
    """For each row a link to what it is about, or its model and id, or a dash.

    Takes one query, the host's own with what that prefetches, for each model.
    """
    rows = list(rows)
    links: dict[tuple[str, str], SafeString] = {}
    for label in sorted({row.about_type for row in rows if row.about_id}):
        ids = {row.about_id for row in rows if row.about_type == label}
        for key, link in _links(label, ids, site, request):
            links[label, key] = link
    return [links.get((row.about_type, row.about_id)) or _name(row) for row in rows]


def find_objects(term: str, *, site: AdminSite, request: HttpRequest) -> Iterator[tuple[str, str]]:
    """The label and primary key of what `term` may mean among the things rows are about: the one
    with this key, and what the lists of the host's admin find, the FOUND newest of each model."""
    for label in _labels():
        yield label, term
        owner = find_owner(label, site, request)
        if owner is None or not owner.get_search_fields(request):
            continue
        rows = owner.get_queryset(request)
        found, _doubled = owner.get_search_results(request, rows, term)
        for key in found.order_by("-pk").values_list("pk", flat=True)[:FOUND]:
            yield label, str(key)


def _labels() -> list[str]:
    """The models that notifications are about: a few steps along the index on `about_type`."""
    rows = Notification.objects.exclude(about_id="").order_by("about_type")
    labels: list[str] = []
    while len(labels) < TYPES:
        rest = rows.filter(about_type__gt=labels[-1]) if labels else rows
        label = rest.values_list("about_type", flat=True).first()
        if label is None:
            break
        labels.append(label)
    return labels


def find_owner(label: str, site: AdminSite, request: HttpRequest) -> ModelAdmin[Any] | None:
    """The admin of a model, if it has one in which the person may look."""
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):  # an app that was removed
        return None
    if not site.is_registered(model):
        return None
    owner = site.get_model_admin(model)
    return owner if owner.has_view_permission(request) else None


def _links(
    label: str, ids: Iterable[str], site: AdminSite, request: HttpRequest
) -> Iterator[tuple[str, SafeString]]:
    owner = find_owner(label, site, request)
    if owner is None:
        return
    page = f"admin:{owner.opts.app_label}_{owner.opts.model_name}_change"
    keys = list(_keys(owner, ids))
    for each in owner.get_queryset(request).filter(pk__in=keys):
        url = reverse(page, args=[quote(each.pk)], current_app=site.name)
        text = f"{owner.opts.verbose_name} {each}"
        yield str(each.pk), format_html('<a href="{}">{}</a>', url, text)


def _keys(owner: ModelAdmin[Any], ids: Iterable[str]) -> Iterator[Any]:
    for each in ids:
        try:
            yield owner.opts.pk.to_python(each)
        except ValidationError:  # the model had other keys once
            continue


def _name(row: Work) -> str:
    if not row.about_id:
        return NOTHING
    return f"{row.about_type.rpartition('.')[2]} {row.about_id}"
