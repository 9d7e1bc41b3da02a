"""django-rq's `rqworker` with better defaults: typed bare, it serves every configured queue."""

from __future__ import annotations

import logging
from typing import Any

from django_rq.management.commands.rqworker import Command as RQWorkerCommand

from notifications import conf


class Command(RQWorkerCommand):
    """Options are django-rq's."""

    help = "Runs a worker on the named queues, or on all of RQ_QUEUES."

    def handle(self, *args: str, **options: Any) -> None:
        """Work until told to stop."""
        queues = args or conf.queue_names()
        logging.getLogger("notifications").setLevel(
            {0: logging.WARNING, 1: logging.INFO}.get(options["verbosity"], logging.DEBUG)
        )
        self.stdout.write(f"Serving {', '.join(queues)}. Ctrl-C to stop.")
        super().handle(*queues, **options)
