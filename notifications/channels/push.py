"""Web push: short messages to the browsers that a user has subscribed.

Their text is `notifications/<kind>/push.txt`, or that of the inbox (`in_app.txt`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from notifications import conf, contents
from notifications.channels import templates
from notifications.channels.base import Channel
from notifications.channels.notes import compose_note
from notifications.errors import AddressGone, InvalidAddress
from notifications.message import Push
from notifications.models import Priority, PushSubscription

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from notifications.kinds import Kind
    from notifications.models import Notification

MOST = 10  # browsers of one user that get a message, the newest ones

_ADDRESS = re.compile(r"[\w.-]+#(\d+)")
_URGENCY = {Priority.CRITICAL: "high", Priority.HIGH: "high", Priority.LOW: "low"}


class PushChannel(Channel):
    """One browser at a time."""

    name = "push"

    def address_of(self, user: AbstractBaseUser) -> str:
        """The browser that was subscribed last."""
        return next(iter(self.addresses_of(user)), "")

    def addresses_of(self, user: AbstractBaseUser) -> list[str]:
        """Every browser of the user, as far as it was subscribed with the present key."""
        if user.pk is None:
            return []
        # Services refuse what another key than the subscription's has signed. A key that is back
        # finds its browsers again: they are passed over, and not deleted.
        found = PushSubscription.objects.filter(user_id=user.pk, key=public_key())
        found = found.only("pk", "host")
        return [each.address for each in found.order_by("-pk")[:MOST]]

    def clean(self, address: str) -> str:
        """As it is. Raises InvalidAddress for what is no address of a subscription."""
        if not _ADDRESS.fullmatch(address):
            raise InvalidAddress("a push address looks like push.example.com#7")
        return address

    def drop(self, address: str) -> bool:
        """Delete the subscription: the browser makes a new one if its user wants."""
        found = _ADDRESS.fullmatch(address)
        if found:
            PushSubscription.objects.filter(pk=int(found[1])).delete()
        return True

    def compose(
        self, row: Notification, kind: type[Kind] | None, context: Mapping[str, Any]
    ) -> Push:
        """The message of `row`. Raises AddressGone, InvalidMessage; template errors come
        through."""
        note = compose_note(row, kind, context, names=[self.name, "in_app"])
        keys = _keys(row)
        return Push(
            id=row.pk,
            to=row.to,
            endpoint=keys["endpoint"],
            p256dh=keys["p256dh"],
            auth=keys["auth"],
            title=note.title,
            text=note.text,
            link=note.link and urljoin(f"{str(conf.get('FRONTEND_URL')).rstrip('/')}/", note.link),
            type=note.type,
            urgency=_URGENCY.get(Priority(row.priority), "normal"),
        )

    def preload(self, kinds: Sequence[type[Kind]]) -> None:
        """Compile the templates of `kinds`."""
        templates.preload([kind.name for kind in kinds], names=[self.name, "in_app"])


def public_key() -> str:
    """What browsers subscribe with (VAPID); empty where nothing is pushed."""
    channel = conf.channels().get("push")
    given = [each.options.get("PUBLIC_KEY") for each in channel.providers] if channel else []
    return bare(next(filter(None, given), ""))


def bare(key: object) -> str:
    """A key without what base64 may end with: the same one however it is written."""
    return str(key).rstrip("=")


def _keys(row: Notification) -> dict[str, str]:
    """Endpoint and keys; those of a sample for a row that is only looked at."""
    if row.pk == 0:
        return {"endpoint": "", "p256dh": "", "auth": ""}
    found = _ADDRESS.fullmatch(row.to)
    subscription = PushSubscription.objects.filter(pk=int(found[1])).first() if found else None
    if subscription is None:
        raise AddressGone("The browser is not subscribed any more.")
    if subscription.key != public_key():
        raise AddressGone("The browser was subscribed with another key of the site.")
    return contents.unseal(subscription.sealed)
