"""Show what a kind looks like, with its sample data."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from notifications import conf, previews
from notifications.errors import NotificationsError
from notifications.kinds import get_kind
from notifications.management.base import OperationCommand
from notifications.message import Email, Note
from notifications.redaction import describe


class Command(OperationCommand):
    """Nothing is sent."""

    help = "Prints a kind's message as it would go out, made from its sample."

    def add_arguments(self, parser: CommandParser) -> None:
        """KIND, --channel, --language, --html, --json."""
        parser.add_argument("kind")
        parser.add_argument("--channel", default="email", choices=list(conf.channels()))
        languages = [code for code, _name in settings.LANGUAGES]
        parser.add_argument("--language", default="", choices=languages)
        parser.add_argument("--html", action="store_true", help="the HTML of a mail")
        self.add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Print it. Raises CommandError."""
        try:
            kind = get_kind(options["kind"])
        except NotificationsError as error:
            raise CommandError(str(error), returncode=2) from error
        try:
            message = previews.preview_kind(kind, options["channel"], language=options["language"])
        except Exception as error:  # templates may raise anything
            raise CommandError(f"It cannot be made: {describe(error)}", returncode=1) from error
        facts = {
            "kind": kind.name,
            "channel": options["channel"],
            "language": options["language"],
            "message": _facts(message),
        }
        self.tell(facts, _words(message, html=options["html"]), as_json=options["json"])


def _facts(message: Any) -> dict[str, str]:
    names = {Email: ("subject", "text", "html"), Note: ("title", "text", "link")}
    told = names.get(type(message))
    return {name: getattr(message, name) for name in told} if told else {"text": str(message)}


def _words(message: Any, *, html: bool) -> str:
    if isinstance(message, Email):
        if html:
            return message.html
        return f"Subject: {message.subject}\n\n{message.text}"
    if isinstance(message, Note):
        return "\n".join(filter(None, (message.title, message.text, message.link)))
    return str(message)
