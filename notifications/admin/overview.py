"""The overview: how everything stands, with charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import health, overview, queues
from notifications.admin.queues import Shown, since
from notifications.admin.screen import ScreenAdmin
from notifications.health import Level
from notifications.models.screens import Overview
from notifications.overview import WINDOWS
from notifications.statistics import say

DEFAULT = "24h"
LABELS = {
    "1h": gettext_lazy("1 hour"),
    "24h": gettext_lazy("24 hours"),
    "7d": gettext_lazy("7 days"),
    "30d": gettext_lazy("30 days"),
}
LEVELS = {
    Level.HEALTHY: gettext_lazy("All is well."),
    Level.DEGRADED: gettext_lazy("Somebody should look."),
    Level.FAILING: gettext_lazy("Messages do not go out."),
}
TONES = {Level.HEALTHY: "good", Level.DEGRADED: "warn", Level.FAILING: "bad"}


@admin.register(Overview)
class OverviewAdmin(ScreenAdmin):
    """Totals, charts with their numbers beneath, channels and queues."""

    permission = "view_notification"
    template = "overview.html"

    class Media:
        js = ("notifications/vendor/chart.umd.min.js", "notifications/overview.js")

    def values(self, request: HttpRequest) -> dict[str, Any]:
        """One window of time; any other word means the default one."""
        name = request.GET.get("window", DEFAULT)
        window = WINDOWS.get(name, WINDOWS[DEFAULT])
        seen, looks, seen_health = overview.look(window), queues.look_at_all(), health.examine()
        ours = [look.stats for look in looks if look.ours]
        steps = [(_label(at, name), tally) for at, tally in seen.steps]
        letters = reverse("admin:notifications_deadletter_groups")
        return {
            "windows": [(each, LABELS[each], each == window.name) for each in WINDOWS],
            "seen": seen,
            "rate": _percent(seen.total.rate),
            "waiting": say(sum(each.waiting for each in ours)),
            "oldest": since(max((each.oldest for each in ours if each.oldest), default=None)),
            "dead": say(sum(look.stats.dlq for look in looks)),
            "letters": letters if self.allowed(request, "view_deadletter") else "",
            "steps": steps,
            "channels": [
                (channel, tally, _percent(tally.rate)) for channel, tally in seen.channels.items()
            ],
            "looks": [Shown(look, _page(request, look)) for look in looks],
            "level": LEVELS[seen_health.level],
            "tone": TONES[seen_health.level],
            "reasons": [reason.text for reason in seen_health.reasons],
            "chart": _chart(steps, tallied=seen.tallied),
        }


def _chart(steps: Sequence[tuple[str, overview.Tally]], *, tallied: bool) -> dict[str, Any]:
    """What the script draws. Tallies know what happened, not what waits or was withheld."""
    bars = [
        (_("sent"), "good", [tally.sent for _label, tally in steps]),
        (_("failed"), "bad", [tally.failed for _label, tally in steps]),
    ]
    if not tallied:
        bars += [
            (_("waiting"), "wait", [tally.waiting for _label, tally in steps]),
            (_("not sent on purpose"), "off", [tally.withheld for _label, tally in steps]),
        ]
    return {
        "labels": [label for label, _tally in steps],
        "sets": [{"label": label, "tone": tone, "data": data} for label, tone, data in bars],
    }


def _page(request: HttpRequest, look: queues.QueueLook) -> str:
    if not look.ours or not request.user.has_perm("notifications.view_hold"):
        return ""
    return reverse("admin:notifications_queue_one", args=[look.name])


def _label(at: Any, window: str) -> str:
    return date_format(at, {"1h": "H:i", "24h": "H:i", "7d": "D H:i"}.get(window, "j M"))


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1f} %"
