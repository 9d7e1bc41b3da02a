"""Find notifications by what people have at hand: an order's number, a mail's id, an address."""

from __future__ import annotations

from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

from django.contrib.admin import AdminSite
from django.db.models import QuerySet
from django.db.models.functions import Upper
from django.http import HttpRequest

from notifications import bounds, conf
from notifications.admin.about import find_objects
from notifications.errors import InvalidAddress
from notifications.models import Attempt, Notification, Task
from notifications.models.work import FAILED

FOUND = 1000  # rows that each way of looking brings up


def find_notifications(
    term: str, *, site: AdminSite, request: HttpRequest, by_address: bool
) -> set[int]:
    """Primary keys of the notifications that `term` may mean.

    It may be anything by which the host's admin finds what a notification is about, an object's
    id, the row's own id, its idempotency key, the provider's message id or, only if `by_address`,
    exactly the recipient's address. Each of these is a query of its own, because each has an index
    of its own; a single condition over all of them would read the whole table, and more.
    """
    rows = Notification.objects
    objects = list(find_objects(term, site=site, request=request))
    found = _ids(rows.filter(key=term, channel__in=conf.channels()))
    for label, pairs in groupby(objects, key=itemgetter(0)):
        keys = [key for _label, key in pairs]
        found |= _ids(rows.filter(about_type=label, about_id__in=keys).exclude(about_id=""))
    sent = Attempt.objects.filter(message_id__in=[term, f"<{term}>"], notification__isnull=False)
    found |= set(sent.exclude(message_id="").values_list("notification_id", flat=True)[:FOUND])
    if (number := bounds.read_key(term.removeprefix("#"))) is not None:
        found |= _ids(rows.filter(pk=number))
    if by_address:
        same = rows.alias(address=Upper("to")).filter(address__in=_addresses(term))
        found |= _ids(same.order_by("-pk"))
    return found


def find_dead_tasks(term: str) -> set[int]:
    """Primary keys of the tasks of the event `term` that gave up; looked for among those alone,
    which have an index."""
    try:
        event = UUID(term)
    except ValueError:
        return set()
    rows = Task.objects.filter(state__in=FAILED, event_id=event)
    return set(rows.order_by("-pk").values_list("pk", flat=True)[:FOUND])


def _addresses(term: str) -> set[str]:
    """What `term` is as an address of each channel: numbers are typed in many ways."""
    addresses = set()
    for each in conf.channels().values():
        if not each.channel.kept:
            with suppress(InvalidAddress):
                addresses.add(each.channel.clean(term).upper())
    return addresses


def _ids(rows: QuerySet[Notification, Any]) -> set[int]:
    return set(rows.values_list("pk", flat=True)[:FOUND])
