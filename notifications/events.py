"""Publish facts; run what subscribed to them.

    @on("order.placed")
    def confirm(order_id: int) -> None: ...

    publish("order.placed", order_id=7)

`publish` writes one task for each handler, in the caller's own transaction: rolled back means
never happened, and a handler that fails is tried again without the others.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

from notifications.models import Priority
from notifications.muting import is_muted
from notifications.retries import RetryPolicy
from notifications.tasks import TaskFunction, check_plain, insert, task

logger = logging.getLogger("notifications.events")

_handlers: dict[str, dict[str, TaskFunction]] = {}


def on(
    topic: str,
    *,
    name: str | None = None,
    queue_name: str | None = None,
    priority: Priority = Priority.NORMAL,
    retry: RetryPolicy | None = None,
    timeout: float | None = None,
) -> Callable[[Callable[..., Any]], TaskFunction]:
    """Subscribe a function to `topic`; it is called with the event's payload as keywords.

    What it writes and notifies commits together with its task: if it crashes and runs again,
    nothing is doubled.
    """

    def subscribe(func: Callable[..., Any]) -> TaskFunction:
        register = task(
            name=name, queue_name=queue_name, priority=priority, retry=retry, timeout=timeout
        )
        function = register(func)
        _handlers.setdefault(topic, {})[function.name] = function
        return function

    return subscribe


def handlers(topic: str) -> list[TaskFunction]:
    """The functions subscribed to `topic`, in the order of their subscription."""
    return list(_handlers.get(topic, {}).values())


def topics() -> dict[str, list[TaskFunction]]:
    """Every topic that has handlers."""
    return {topic: list(known.values()) for topic, known in sorted(_handlers.items())}


def publish(topic: str, /, **payload: Any) -> uuid.UUID:
    """Publish a fact, with ids and plain values as its payload; the event's id.

    Raises InvalidPayload, and OutsideTransaction in strict mode.
    """
    event_id = uuid.uuid4()
    if is_muted():
        logger.debug("muted: %s", topic)
        return event_id
    check_plain(payload, where=f"the payload of {topic}")
    known = handlers(topic)
    if not known:
        logger.info("nobody is subscribed to %s", topic)
        return event_id
    insert([each.row(payload, topic=topic, event_id=event_id) for each in known])
    return event_id
