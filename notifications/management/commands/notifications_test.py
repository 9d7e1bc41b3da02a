"""Send a real message, wait, and say what became of it."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from notifications import conf, jobs, operations
from notifications.dispatch import To
from notifications.errors import NotificationsError
from notifications.kinds import get_kind
from notifications.management.base import OperationCommand
from notifications.models import Attempt, Notification, Priority, State

LOOK = 0.1  # seconds between looks at the row
ARRIVED = (State.SENT, State.DELIVERED, State.READ)


class Command(OperationCommand):
    """Through the queue and the workers, like any other message."""

    help = (
        "Sends a test message and tells what became of it. "
        "Exit code 0: it was accepted; 1: it was not; 2: it could not be asked for."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """What, to whom, and how long to wait."""
        parser.add_argument("--channel", required=True, choices=list(conf.channels()))
        parser.add_argument(
            "--to", required=True, help='an address on the channel, or "user:NAME" for theirs'
        )
        parser.add_argument("--kind", default="", help="a kind, sent with its sample data")
        languages = [code for code, _name in settings.LANGUAGES]
        parser.add_argument("--language", default="", choices=languages)
        parser.add_argument(
            "--priority", default="critical", choices=[each.name.lower() for each in Priority]
        )
        parser.add_argument("--retries", type=int, default=0, help="tries after the first; none")
        parser.add_argument("--seconds", type=float, default=30.0, help="how long to wait; 30")
        parser.add_argument(
            "--here", action="store_true", help="deliver in this process, without Redis and workers"
        )
        self.add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask for it, wait, tell. Raises CommandError."""
        channel = options["channel"]
        try:
            row = operations.send_test(
                channel,
                to=self._recipient(options["to"], kept=conf.channel(channel).channel.kept),
                kind=get_kind(options["kind"]) if options["kind"] else None,
                language=options["language"],
                priority=Priority[options["priority"].upper()],
                retries=options["retries"],
            )
        except (NotificationsError, ValueError) as error:
            raise CommandError(str(error), returncode=2) from error
        began = time.monotonic()
        attempts = self._wait(row, seconds=options["seconds"], here=options["here"])
        seconds = round(time.monotonic() - began, 2)
        self._tell(row, attempts, seconds, to=options["to"], as_json=options["json"])
        if row.state not in ARRIVED:
            raise CommandError(_what_to_do(row, attempts, here=options["here"]), returncode=1)

    def _recipient(self, given: str, *, kept: bool) -> To:
        """The user who is named, or the address. Raises CommandError (2)."""
        prefix, _, name = given.rpartition("user:")
        if prefix or not (kept or given.startswith("user:")):
            return given
        users = get_user_model()
        for field in (users.USERNAME_FIELD, "pk"):
            try:
                user = users._default_manager.filter(**{field: name}).first()
            except (ValueError, ValidationError):
                continue
            if user is not None:
                return user
        raise CommandError(f"There is no user {name!r}.", returncode=2)

    def _wait(self, row: Notification, *, seconds: float, here: bool) -> list[Attempt]:
        """Until the row has ended, its provider is held or the time is over; its attempts."""
        until = time.monotonic() + seconds
        while True:
            if here and row.state == State.PENDING and operations.is_due(row):
                jobs.deliver(row.channel, row.pk)
            row.refresh_from_db()
            attempts = list(row.attempt_set.order_by("number"))
            held = bool(attempts) and attempts[-1].outcome == "hold"
            if row.state != State.PENDING or held or time.monotonic() > until:
                return attempts
            time.sleep(LOOK)

    def _tell(
        self, row: Notification, attempts: list[Attempt], seconds: float, *, to: str, as_json: bool
    ) -> None:
        facts = {
            "id": row.pk,
            "channel": row.channel,
            "kind": row.kind,
            "to": to,
            "state": row.state,
            "reason": row.reason,
            "seconds": seconds,
            "attempts": [
                {
                    "number": each.number,
                    "provider": each.provider,
                    "outcome": each.outcome,
                    "code": each.code,
                    "text": each.text,
                    "message_id": each.message_id,
                    "milliseconds": each.milliseconds,
                }
                for each in attempts
            ],
        }
        lines = [f"{row.channel} to {to}: {row.get_state_display()} after {seconds:g} s"]
        for each in attempts:
            answer = " ".join(word for word in (each.code, each.text) if word)
            words = [each.get_outcome_display(), answer, each.message_id, f"{each.milliseconds} ms"]
            by = f" by {each.provider}" if each.provider else ""
            lines.append(f"  attempt {each.number}{by}: {', '.join(str(w) for w in words if w)}")
        self.tell(facts, "\n".join(lines), as_json=as_json)


def _what_to_do(row: Notification, attempts: list[Attempt], *, here: bool) -> str:
    reason = f": {row.reason}" if row.reason else ""
    if row.state == State.PENDING and not attempts and not here:
        return (
            f"It still waits{reason}. Does a worker serve the queue {row.queue!r}, and is the "
            "queue not paused? --here delivers without Redis and workers."
        )
    return f"It did not go out{reason}."
