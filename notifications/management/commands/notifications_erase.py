"""Take what is known of one person out of the messages to them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from notifications import erasure, operations
from notifications.management.base import OperationCommand


class Command(OperationCommand):
    """By user, by address, or both."""

    help = (
        "Erases recipients, contents and providers' ids from all messages to a person, and cancels "
        "what has not gone out. States, times and statistics stay."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """--user, --address."""
        parser.add_argument("--user", help="primary key of the user")
        parser.add_argument(
            "--address", action="append", default=[], dest="addresses",
            help="mail address or number in international form; repeat for several",
        )  # fmt: skip
        self.add_json(parser)
        self.add_confirmation(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Erase. Raises CommandError: 1 when a worker has some of them in hand, 2 for usage."""
        user, addresses = self._user(options["user"]), options["addresses"]
        if user is None and not addresses:
            raise CommandError("Name the person: --user or --address.", returncode=2)
        found = erasure.erase_person(user, addresses=addresses, dry_run=True)
        if not options["dry_run"]:
            self.confirm(
                f"Erase {found.messages} messages, of which {found.cancelled} have not gone out?",
                interactive=options["interactive"],
            )
            found = operations.erase(user, addresses=addresses)
        verb = "would be erased" if options["dry_run"] else "erased"
        self.tell(
            {
                "messages": found.messages,
                "cancelled": found.cancelled,
                "busy": found.busy,
                "dry_run": options["dry_run"],
            },
            f"{found.messages} messages {verb}, {found.cancelled} of them unsent.",
            as_json=options["json"],
        )
        if found.busy and not options["dry_run"]:
            raise CommandError(f"{found.busy} are being sent right now: run it again in a moment.")

    def _user(self, key: str | None) -> AbstractBaseUser | None:
        if key is None:
            return None
        users = get_user_model()._default_manager
        try:
            return users.get(pk=key)
        except (users.model.DoesNotExist, ValueError, ValidationError):
            raise CommandError(f"No user has the key {key!r}.", returncode=2) from None
