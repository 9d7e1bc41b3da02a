"""Whom a person may send tests to, and how many: the same on the screens and over REST.

Tests reach people. They go to who sends them, or to addresses that NOTIFICATIONS["REST"] lists, and
so many in a time. They are counted in the database, whichever web process answers.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import router
from django.db.models.functions import Now

from notifications import conf
from notifications.dispatch import To
from notifications.errors import InvalidAddress, NotAllowed, TooMany
from notifications.models import SentTest


def recipient(channel: str, to: str, *, by: AbstractBaseUser) -> To:
    """Whom a test of `by`'s goes to; without `to` to themselves.

    Raises NotAllowed for a stranger, InvalidAddress and UnknownChannel.
    """
    if not to:
        return by
    known = conf.channel(channel).channel
    address = known.clean(to)
    with suppress(InvalidAddress):  # a person without an address of their own
        if known.clean(known.address_of(by)).lower() == address.lower():
            return by
    listed = _options()["TEST_RECIPIENTS"]
    if not any(fnmatchcase(address.lower(), pattern.lower()) for pattern in listed):
        raise NotAllowed(
            "A test goes to your own address, or to one of NOTIFICATIONS['REST']"
            "['TEST_RECIPIENTS']."
        )
    return address


def count(by: AbstractBaseUser) -> None:
    """Count one more test of `by`'s, in the caller's transaction. Raises TooMany."""
    rate = conf.parse_rate(_options()["TEST_RATE"])
    if rate is None:
        return
    using = router.db_for_write(SentTest)
    # Each person's one after the other: two at once would not see each other's.
    users = get_user_model()._base_manager.using(using).filter(pk=by.pk)
    list(users.select_for_update(no_key=True).values_list("pk"))
    window = timedelta(seconds=rate.seconds)
    theirs = SentTest.objects.using(using).filter(by_id=by.pk)
    theirs.filter(sent_at__lte=Now() - window).delete()
    counted = list(theirs.order_by("-sent_at", "-pk").annotate(now=Now())[: rate.limit])
    if len(counted) == rate.limit:
        oldest = counted[-1]
        raise TooMany((oldest.sent_at + window - oldest.now).total_seconds())
    SentTest.objects.using(using).create(by_id=by.pk)


def _options() -> dict[str, Any]:
    return {**conf.DEFAULTS["REST"], **conf.get("REST")}
