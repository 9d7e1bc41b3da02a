"""What happens to messages, tasks and queues, for whoever listens: a Django signal and a log line.

    @receiver(signals.failed)
    def page_somebody(sender, *, work, id, queue, title, **facts): ...

Each is sent after the commit of what it tells about. A receiver that raises is logged and breaks
nothing. Where nobody listens and the log does not want the line, nothing is done at all. Facts are
ids, names, codes and numbers, never an address or a content. See docs/monitoring.md.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

from django.db import transaction
from django.dispatch import Signal

from notifications.models.work import Priority, Work

logger = logging.getLogger("notifications.events")


class Happening(Signal):
    """One thing that may happen; `level` is that of its log line."""

    def __init__(self, name: str, level: int) -> None:
        super().__init__()
        self.name, self.level = name, level

    @property
    def heard(self) -> bool:
        """Whether anybody would notice."""
        return self.has_listeners() or logger.isEnabledFor(self.level)

    def tell(self, **facts: Any) -> None:
        """Say it now."""
        if not self.heard:
            return
        words = " ".join(f"{name}={value}" for name, value in facts.items() if value is not None)
        logger.log(self.level, "%s %s", self.name, words, extra={"event": self.name, **facts})
        # Django logs what a receiver raises, with its stack (Signal.send_robust).
        self.send_robust(sender=self.name, **facts)

    def tell_on_commit(self, *, using: str | None = None, **facts: Any) -> None:
        """Say it after the commit of the transaction on database `using`, or now without one."""
        if self.heard:
            transaction.on_commit(partial(self.tell, **facts), using=using, robust=True)

    def tell_rows(self, rows: Iterable[Work], *, using: str | None = None, **facts: Any) -> None:
        """The same of each of `rows`."""
        if not self.heard:
            return
        for row in rows:
            self.tell_on_commit(
                using=using,
                work=row._meta.model_name,
                id=row.pk,
                queue=row.queue,
                title=row.title,
                priority=Priority(row.priority).name.lower(),
                **facts,
            )


waiting = Happening("waiting", logging.DEBUG)
active = Happening("active", logging.DEBUG)
progress = Happening("progress", logging.DEBUG)
completed = Happening("completed", logging.DEBUG)
failed = Happening("failed", logging.WARNING)
stalled = Happening("stalled", logging.WARNING)
removed = Happening("removed", logging.INFO)
cleaned = Happening("cleaned", logging.INFO)
drained = Happening("drained", logging.DEBUG)
paused = Happening("paused", logging.WARNING)
resumed = Happening("resumed", logging.WARNING)
error = Happening("error", logging.ERROR)
