"""Make, list and revoke tokens of the REST API."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from notifications import conf
from notifications.management.base import OperationCommand
from notifications.models import ApiToken
from notifications.tokens import make_token, revoke_token

LISTED = 200


class Command(OperationCommand):
    """Bare, it lists them."""

    help = "Makes a token that acts for a staff user (--for), revokes one (--revoke), or lists all."

    def add_arguments(self, parser: CommandParser) -> None:
        """--for, --name, --lasts, --revoke."""
        parser.add_argument("--for", dest="user", help="username of a member of staff")
        parser.add_argument("--name", default="command line", help="what it is for")
        parser.add_argument("--lasts", default="90d", help='"90d", "12h"; empty: until revoked')
        parser.add_argument("--revoke", type=int, metavar="ID")
        self.add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it. Raises CommandError."""
        if options["revoke"] is not None:
            self._revoke(options["revoke"], as_json=options["json"])
        elif options["user"]:
            self._make(options)
        else:
            self._list(as_json=options["json"])

    def _make(self, options: dict[str, Any]) -> None:
        users = get_user_model()
        user = users._default_manager.filter(**{users.USERNAME_FIELD: options["user"]}).first()
        if user is None or not getattr(user, "is_staff", False):
            raise CommandError(f"No member of staff is named {options['user']!r}.", returncode=2)
        try:
            lasts = conf.parse_duration(options["lasts"]) if options["lasts"] else None
        except ImproperlyConfigured as error:
            raise CommandError(str(error), returncode=2) from error
        row, token = make_token(user, name=options["name"], lasts=lasts)
        facts = {"id": row.pk, "token": token, "expires_at": row.expires_at}
        self.tell(facts, f"{token}\n(#{row.pk}; it is not shown again)", as_json=options["json"])

    def _revoke(self, key: int, *, as_json: bool) -> None:
        row = ApiToken.objects.filter(pk=key).first()
        if row is None:
            raise CommandError(f"No token has the id {key}.", returncode=2)
        revoke_token(row)
        self.tell({"id": key, "revoked": True}, f"Revoked #{key}.", as_json=as_json)

    def _list(self, *, as_json: bool) -> None:
        rows = list(ApiToken.objects.select_related("user").order_by("-pk")[:LISTED])
        facts = [
            {"id": row.pk, "name": row.name, "for": str(row.user), "expires_at": row.expires_at,
             "used_at": row.used_at}
            for row in rows
        ]  # fmt: skip
        lines = [
            f"#{each['id']}  {each['name']}  for {each['for']}  "
            f"until {each['expires_at'] or 'revoked'}  last used {each['used_at'] or 'never'}"
            for each in facts
        ]
        self.tell({"tokens": facts}, "\n".join(lines) or "There are no tokens.", as_json=as_json)
