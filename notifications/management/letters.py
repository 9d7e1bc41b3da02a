"""Which dead letters a command is about."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from notifications import conf
from notifications.management.base import OperationCommand
from notifications.models import DeadLetter


class LettersCommand(OperationCommand):
    """Chooses dead letters by id or by filters."""

    def add_filters(self, parser: CommandParser) -> None:
        """--queue, --error, --group, --since, --limit."""
        parser.add_argument("--queue", help="of this queue")
        parser.add_argument("--kind", help="of this kind or function")
        parser.add_argument("--error", help="with this code or error class")
        self.add_group(parser)
        parser.add_argument("--since", help='of the last "30m", "2h", "1d"')
        parser.add_argument("--limit", type=int, help="the oldest ones, at most so many")

    def add_group(self, parser: CommandParser) -> None:
        """--group."""
        parser.add_argument("--group", help="of this group (its fingerprint)")

    def add_choice(self, parser: CommandParser) -> None:
        """ids, or --all with filters."""
        parser.add_argument("ids", nargs="*", type=int, help="dead letters, by their id")
        parser.add_argument("--all", action="store_true", help="all that match the filters")
        self.add_filters(parser)
        self.add_confirmation(parser)
        self.add_json(parser)

    def matching(self, options: dict[str, Any]) -> QuerySet[DeadLetter]:
        """Those the filters let through, oldest first. Raises CommandError (2)."""
        self.at_least_one("--limit", options["limit"])
        found = DeadLetter.objects.order_by("pk")
        if options["queue"]:
            found = found.filter(queue=self.known_queue(options["queue"]))
        if options["kind"]:
            found = found.filter(name=options["kind"])
        if options["error"]:
            found = found.filter(Q(code=options["error"]) | Q(error=options["error"]))
        if options["group"]:
            found = found.filter(fingerprint=options["group"])
        if options["since"]:
            try:
                age = conf.parse_duration(options["since"])
            except ImproperlyConfigured as error:
                raise CommandError(str(error), returncode=2) from error
            found = found.filter(created_at__gte=Now() - age)
        return found

    def chosen(self, options: dict[str, Any]) -> list[int]:
        """The ids the command is about, frozen now. Raises CommandError (2)."""
        if bool(options["ids"]) == options["all"]:
            raise CommandError("Name dead letters by their id, or say --all.", returncode=2)
        found = self.matching(options)
        if options["ids"]:
            found = found.filter(pk__in=options["ids"])
            known = set(found.values_list("pk", flat=True))
            if unknown := sorted(set(options["ids"]) - known):
                words = ", ".join(map(str, unknown))
                raise CommandError(f"No such dead letter here: {words}.", returncode=2)
        return list(found.values_list("pk", flat=True)[: options["limit"]])
