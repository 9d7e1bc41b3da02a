"""django-rq's `rqworker` with better defaults: typed bare, it serves every configured queue."""

# mypy: allow-untyped-calls
# (django-rq's command has no types)

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django_rq.management.commands.rqworker import Command as RQWorkerCommand

from notifications.management.workers import prepare
from notifications.worker import TTL


class Command(RQWorkerCommand):
    """Options are django-rq's."""

    help = "Runs a worker on the named queues, or on all of RQ_QUEUES."

    def add_arguments(self, parser: CommandParser) -> None:
        """django-rq's, with a shorter life for the records of a silent worker."""
        super().add_arguments(parser)
        parser.set_defaults(worker_ttl=TTL)

    def handle(self, *args: str, **options: Any) -> None:
        """Work until told to stop."""
        queues, options["worker_class"] = prepare(self, args, options)
        super().handle(*queues, **options)
