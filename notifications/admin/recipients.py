"""Who a message goes to, as far as the person who looks may see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from notifications import conf
from notifications.admin.about import NOTHING, find_owner
from notifications.models import Notification, Task
from notifications.redaction import mask


def name_recipients(rows: Sequence[Notification | Task], *, revealed: bool) -> list[str]:
    """For each row its address; of a message in an inbox, whose it is: the address is a primary
    key, which says nothing to people. Masked unless `revealed`; a dash for tasks. One query."""
    readers = _readers(rows)
    names = [_name(row, readers) for row in rows]
    return [name if revealed or name == NOTHING else mask(name) for name in names]


def link_recipient(
    row: Notification | Task, name: str, *, site: AdminSite, request: HttpRequest
) -> SafeString | str:
    """`name`, as a link to the page of the user in whose inbox `row` is, for who may open it."""
    if not _is_kept(row):
        return name
    owner = find_owner(get_user_model()._meta.label_lower, site, request)
    if owner is None:
        return name
    page = f"admin:{owner.opts.app_label}_{owner.opts.model_name}_change"
    url = reverse(page, args=[quote(str(row.user_id))], current_app=site.name)
    return format_html('<a href="{}">{}</a>', url, name)


def _readers(rows: Sequence[Notification | Task]) -> Mapping[Any, Any]:
    keys = {row.user_id for row in rows if _is_kept(row)}
    return get_user_model()._default_manager.in_bulk(keys) if keys else {}


def _name(row: Notification | Task, readers: Mapping[Any, Any]) -> str:
    if isinstance(row, Task) or not row.to:
        return NOTHING
    return str(readers.get(row.user_id, row.to)) if _is_kept(row) else row.to


def _is_kept(row: Notification | Task) -> TypeGuard[Notification]:
    if isinstance(row, Task) or row.user_id is None:
        return False
    found = conf.channels().get(row.channel)
    return found is not None and found.channel.kept
