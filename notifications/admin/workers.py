"""The workers: host, queues, what they do, and when they were last seen."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from redis.exceptions import RedisError

from notifications import conf, health, workers
from notifications.admin.screen import ScreenAdmin
from notifications.admin.standing import age
from notifications.models.screens import Worker
from notifications.workers import WorkerLook

SILENT = timedelta(minutes=2)  # without a heartbeat; an idle worker gives one every 40 s

_TONES = {"busy": "wait", "suspended": "warn"}


@admin.register(Worker)
class WorkerAdmin(ScreenAdmin):
    """What Redis knows of; it forgets the dead within two minutes."""

    permission = "view_hold"
    template = "workers.html"

    def values(self, request: HttpRequest) -> dict[str, Any]:
        """Every worker, the queues that nobody serves, and the clocks."""
        clocks = [
            (name, ", ".join(names), _ago(since), *_life(seen))
            for name, names, since, seen in health.clocks()
        ]
        try:
            looks = workers.look_at_all()
        except RedisError as error:
            return {"trouble": type(error).__name__, "clocks": clocks}
        served = {name for look in looks for name in look.queues}
        return {
            "clocks": clocks,
            "looks": [(look, *_standing(look), _ago(look.seen_at), _ago(look.since))
                      for look in looks],
            "unserved": [name for name in conf.queue_names() if name not in served],
        }  # fmt: skip


def _standing(look: WorkerLook) -> tuple[str, str]:
    if look.seen_at is None or timezone.now() - look.seen_at > SILENT:
        return _("silent"), "bad"
    return look.state, _TONES.get(look.state, "good")


def _life(seen: datetime) -> tuple[Any, str, str]:
    """When a clock was seen last, and what that means."""
    silent = timezone.now() - seen > SILENT
    return age(seen), _("silent") if silent else _("alive"), "off" if silent else "good"


def _ago(moment: Any) -> Any:
    return "–" if moment is None else age(moment)
