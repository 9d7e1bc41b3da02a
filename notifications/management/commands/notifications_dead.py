"""List dead letters, one by one or by group."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Count, Max, Min

from notifications.management.letters import LettersCommand

SHOWN = 100
GROUPS = "*"  # no fingerprint


class Command(LettersCommand):
    """Newest first."""

    help = "Lists dead letters; with --group those that died of the same as one line."

    def add_arguments(self, parser: CommandParser) -> None:
        """The filters, --json."""
        self.add_filters(parser)
        self.add_json(parser)

    def add_group(self, parser: CommandParser) -> None:
        """Bare, it lists the groups; with one of them it is a filter, as for other commands."""
        parser.add_argument(
            "--group", nargs="?", const=GROUPS, metavar="FINGERPRINT",
            help="one line for each error; or those of one group (its fingerprint)",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        """List them."""
        by_group = options["group"] == GROUPS
        found = self.matching({**options, "group": None} if by_group else options)
        most = options["limit"] or SHOWN
        facts: Any  # rows of two shapes
        if by_group:
            facts = list(
                found.order_by()
                .values("fingerprint", "name", "error", "code")
                .annotate(count=Count("pk"), first=Min("created_at"), last=Max("created_at"))
                .order_by("-count")[:most]
            )
            lines = [
                f"{each['fingerprint']}  {each['count']:>6}  {each['name']}  "
                f"{each['code'] or each['error']}  last {each['last']:%Y-%m-%d %H:%M}"
                for each in facts
            ]
        else:
            facts = list(
                found.order_by("-pk").values(
                    "id", "queue", "name", "code", "reason", "attempts", "created_at"
                )[:most]
            )
            lines = [
                f"{each['id']:>8}  {each['created_at']:%Y-%m-%d %H:%M}  {each['queue']}  "
                f"{each['name']}  {each['reason']}"
                for each in facts
            ]
        text = "\n".join(lines) or "There are no dead letters."
        self.tell({"results": facts}, text, as_json=options["json"])
