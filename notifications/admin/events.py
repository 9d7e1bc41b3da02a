"""The events: who hears each topic, and how its handlers fare."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

from notifications import topics
from notifications.admin.screen import ScreenAdmin
from notifications.admin.standing import age
from notifications.models.screens import Event
from notifications.tasks import TaskFunction


@admin.register(Event)
class EventAdmin(ScreenAdmin):
    """Every topic, with its handlers."""

    permission = "view_task"
    template = "events.html"

    def values(self, request: HttpRequest) -> dict[str, Any]:
        """Each topic, and when it was last heard of."""
        looks = topics.look_at_all()
        return {
            "looks": [
                (
                    look,
                    look.stats.as_words(),
                    [_told(each) for each in look.handlers],
                    age(look.last_at) if look.last_at else "–",
                )
                for look in looks
            ],
            "tasks": reverse("admin:notifications_task_changelist"),
            "most": topics.LOOKED_AT,
        }


def _told(handler: TaskFunction) -> tuple[str, str, str]:
    """Its name, in short and in full, and its queue. (Not itself: templates call what they can.)"""
    return handler.name.rpartition(".")[2], handler.name, handler.queue
