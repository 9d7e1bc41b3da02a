"""The app's own kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from notifications import conf
from notifications.kinds import Kind
from notifications.models import Notification


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
