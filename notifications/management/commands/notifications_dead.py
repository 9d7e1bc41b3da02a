"""List dead letters, one by one or by group."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Count, Max, Min

from notifications.management.letters import LettersCommand

SHOWN = 100


class Command(LettersCommand):
    """Newest first."""

    help = "Lists dead letters; with --groups those that died of the same as one line."

    def add_arguments(self, parser: CommandParser) -> None:
        """The filters, --groups, --json."""
        self.add_filters(parser)
        parser.add_argument("--groups", action="store_true", help="one line for each error")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """List them."""
        found = self.matching(options)
        most = options["limit"] or SHOWN
        facts: Any  # rows of two shapes
        if options["groups"]:
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
