"""The admin's screens; each action is a few lines over `notifications.operations`."""

from notifications.admin import dead_letters, holds, notifications, tasks

__all__ = ["dead_letters", "holds", "notifications", "tasks"]
