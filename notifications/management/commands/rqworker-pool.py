"""django-rq's `rqworker-pool` with better defaults: typed bare, it serves every queue."""
# ruff: noqa: N999 - the command's name is django-rq's

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from notifications.management.workers import prepare

if TYPE_CHECKING:
    Base = BaseCommand
else:  # a module that no import statement can name
    Base = importlib.import_module("django_rq.management.commands.rqworker-pool").Command


class Command(Base):
    """Options are django-rq's."""

    help = "Runs several workers on the named queues, or on all of RQ_QUEUES."

    def handle(self, *args: str, **options: Any) -> None:
        """Work until told to stop."""
        queues, options["worker_class"] = prepare(self, args, options)
        super().handle(*queues, **options)
