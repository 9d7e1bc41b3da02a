"""How the queues stand, in the log, while there is something to say: the clock's part."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from notifications import statistics
from notifications.statistics import EventStats, QueueStats

logger = logging.getLogger("notifications.statistics")


class Reporter:
    """A line for each queue and topic at every report, while they change."""

    def __init__(self) -> None:
        self._told: dict[str, object] = {}  # by queue and topic: what its last line said

    def report(self, queues: Sequence[str]) -> None:
        """Say how `queues` and all topics stand. Raises what the database raises."""
        if not logger.isEnabledFor(logging.INFO):
            return
        for name in queues:
            self._tell("queue", name, statistics.queue_stats(name))
        for topic in statistics.event_stats():
            self._tell("topic", topic.topic, topic)

    def _tell(self, what: str, name: str, stats: QueueStats | EventStats) -> None:
        facts = stats.as_dict()
        facts.pop("oldest", None)  # changes at every look
        if stats.waiting or stats.active or facts != self._told.get(name, facts):
            words = " ".join(
                f"{key}={value}" for key, value in facts.items() if value not in ("", None)
            )
            logger.info("%s", words, extra={"event": f"{what}_statistics", **facts})
        self._told[name] = facts
