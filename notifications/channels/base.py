"""What a channel is: it knows what an address looks like and how a message is composed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from notifications.kinds import Kind
    from notifications.models import Notification


class Channel:
    """One way to reach people. Stateless: one instance serves the whole process."""

    name: str = ""
    kept: bool = False  # the row is the message: nothing is sent, so there is no queue

    def address_of(self, user: AbstractBaseUser) -> str:
        """The user's address on this channel, empty if there is none."""
        raise NotImplementedError

    def addresses_of(self, user: AbstractBaseUser) -> list[str]:
        """All of the user's addresses on this channel; each gets a message of its own."""
        address = self.address_of(user)
        return [address] if address else []

    def drop(self, address: str) -> bool:
        """Forget an address that is gone for good. False: it has to be remembered as suppressed."""
        return False

    def clean(self, address: str) -> str:
        """The address in its one stored form. Raises InvalidAddress."""
        raise NotImplementedError

    def compose(
        self, row: Notification, kind: type[Kind] | None, context: Mapping[str, Any]
    ) -> Any:
        """The message that providers of this channel carry.

        `kind` is None for messages without one, whose content is on the row. Raises
        InvalidMessage for what no provider may be given; template errors come through.
        """
        raise NotImplementedError

    def preload(self, kinds: Sequence[type[Kind]]) -> None:
        """Load and compile the templates of `kinds`, so that a forked worker finds them ready."""
