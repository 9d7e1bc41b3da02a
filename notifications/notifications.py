"""The app's own kinds and scheduled tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import urlsplit

from notifications import conf, erasure, lookups, receipts, retention, synchronising, tallies
from notifications.kinds import Kind
from notifications.models import Notification, Priority
from notifications.tasks import task

UNMATCHED_KEPT = timedelta(days=30)  # receipts about messages that nobody here sent


class TestMessage(Kind):
    """What `notifications_test` sends where no other kind is asked for."""

    __test__: ClassVar[bool] = False  # no test of pytest's
    name = "notifications_test"

    @classmethod
    def prepare(cls, batch: Sequence[Notification]) -> Iterable[Mapping[str, Any]]:
        """Where it comes from."""
        return [cls.sample() for _row in batch]

    @classmethod
    def sample(cls) -> Mapping[str, Any]:
        """Where it comes from."""
        site = urlsplit(str(conf.get("FRONTEND_URL"))).netloc or "notifications"
        return {"site": site, "environment": conf.environment()}


@task(
    name="notifications.tidy",
    schedule=timedelta(hours=1),
    priority=Priority.LOW,
    atomic=False,
    timeout=600.0,
)
def tidy() -> dict[str, int]:
    """End what has been unknown for too long, and remove what RETENTION says is old."""
    given_up = receipts.give_up()
    return {
        "given_up": given_up,
        "rows": retention.remove(),
        "receipts": receipts.forget_unmatched(UNMATCHED_KEPT),
        "tallies": tallies.forget_old(),
    }


@task(name="notifications.look_up", schedule=timedelta(hours=1), priority=Priority.LOW)
def look_up() -> None:
    """Ask after what is unknown, each provider in a task of its own: one may be away."""
    look_up_at.bulk_enqueue({"provider": name} for name in lookups.providers())


@task(name="notifications.look_up_at", priority=Priority.LOW, atomic=False, timeout=600.0)
def look_up_at(provider: str) -> dict[str, int]:
    """Ask a provider what became of messages whose answer was lost."""
    return lookups.look_up(conf.provider(provider))


@task(
    name="notifications.erase",
    schedule="41 2 * * *",
    priority=Priority.LOW,
    atomic=False,
    timeout=600.0,
)
def erase() -> int:
    """Take personal data out of what ended longer than ERASE_AFTER ago."""
    return erasure.erase_old()


@task(name="notifications.synchronise", schedule="23 3 * * *", priority=Priority.LOW)
def synchronise() -> None:
    """Copy what every provider knows, each in a task of its own: one may be away."""
    synchronise_provider.bulk_enqueue({"provider": each.name} for each in synchronising.providers())


@task(name="notifications.synchronise_provider", priority=Priority.LOW, atomic=False, timeout=300.0)
def synchronise_provider(provider: str) -> dict[str, int]:
    """Copy the templates and the suppression lists of one provider."""
    return synchronising.synchronise(conf.provider(provider))
