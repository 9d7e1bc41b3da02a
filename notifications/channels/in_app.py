"""In-app: the row is the message. `notifications.inbox` shows it to its reader; nothing is sent.

The text is made when it is read (`notifications/<kind>/in_app.txt`), in the recipient's language:
the row holds ids and plain facts only, as those of all channels do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from notifications.channels import templates
from notifications.channels.base import Channel
from notifications.channels.notes import compose_note
from notifications.message import Note

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from notifications.kinds import Kind
    from notifications.models import Notification


class InAppChannel(Channel):
    """The inbox of a user of this site."""

    name = "in_app"
    kept = True

    def address_of(self, user: AbstractBaseUser) -> str:
        """The user's primary key; every saved user has an inbox."""
        return "" if user.pk is None else str(user.pk)

    def clean(self, address: str) -> str:
        """As it is: it is never typed, but taken from a user."""
        return address

    def compose(
        self, row: Notification, kind: type[Kind] | None, context: Mapping[str, Any]
    ) -> Note:
        """The note of `row`. Raises InvalidMessage; template errors come through."""
        return compose_note(row, kind, context, names=[self.name])

    def preload(self, kinds: Sequence[type[Kind]]) -> None:
        """Compile the templates of `kinds`, in each of the project's languages."""
        templates.preload([kind.name for kind in kinds], names=[self.name])
