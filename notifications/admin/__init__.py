"""The admin's screens; each action is a few lines over `notifications.operations`."""

from notifications.admin import (
    dead_letters,
    deeds,
    events,
    holds,
    messages,
    notifications,
    overview,
    queues,
    suppressions,
    tasks,
    templates,
    tokens,
    workers,
)

__all__ = [
    "dead_letters",
    "deeds",
    "events",
    "holds",
    "messages",
    "notifications",
    "overview",
    "queues",
    "suppressions",
    "tasks",
    "templates",
    "tokens",
    "workers",
]
