"""What a test's code has told people: asked for, composed, and not sent unless the test says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AbstractBaseUser

from notifications import conf, operations, tasks
from notifications.kinds import get_kind, prepare
from notifications.models import Attempt, Notification, Task

MOST = 1000  # handlers run for one look at the outbox; more means that they set off each other


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one recipient on one channel."""

    kind: str  # empty for mail without one
    channel: str
    to: str  # address on the channel
    user: AbstractBaseUser | None
    language: str
    context: Mapping[str, Any]  # as it is stored
    composed: Any  # what the channel's providers get: an Email, a Note, ...
    row: Notification

    def __repr__(self) -> str:
        return f"<{self.kind or 'mail'} on {self.channel} to {self.to}>"


class Outbox:
    """Everything asked for since the fixture was made; nothing needs Redis or a worker."""

    def __init__(self) -> None:
        self._after = _newest()

    @property
    def messages(self) -> list[Message]:
        """All messages in the order they were asked for.

        Runs the event handlers and tasks that are due before it looks, and makes each message as
        it would be sent. What they raise comes through.
        """
        self.run_tasks()
        rows = Notification.objects.filter(pk__gt=self._after).select_related("user")
        return [_message(row) for row in rows.order_by("pk")]

    def of(self, kind: str = "", *, channel: str = "", to: str = "") -> list[Message]:
        """Those of a kind (its name), a channel, a recipient."""
        return [
            message
            for message in self.messages
            if kind in ("", message.kind)
            and channel in ("", message.channel)
            and to in ("", message.to)
        ]

    def run_tasks(self) -> int:
        """Run the tasks that are due, handlers of events among them; how many.

        Raises AssertionError, with the reason, when one fails.
        """
        queues = dict.fromkeys((conf.get("TASK_QUEUE"), *conf.get("TASK_QUEUES")))
        began = Attempt.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        ran = 0
        while ran < MOST and any(tasks.run_due(queue) for queue in queues):
            ran += 1
        failed = Attempt.objects.filter(pk__gt=began, task__isnull=False).exclude(outcome="done")
        for attempt in failed.select_related("task"):
            raise AssertionError(f"{attempt.task}: {attempt.text}")
        assert ran < MOST, f"{ran} tasks ran, and more wait: {_waiting()}"
        return ran

    def deliver(self) -> list[Message]:
        """Send what is due on all channels through their providers, here and now; all messages.

        For tests with a server, such as `smtp_server`. `message.row` then tells what became of it.
        """
        self.run_tasks()
        for each in conf.channels().values():
            if each.queue:
                operations.drain(each.queue)
        return self.messages

    def clear(self) -> None:
        """Forget what was asked for until now."""
        self.run_tasks()
        self._after = _newest()


def _newest() -> int:
    return Notification.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def _waiting() -> str:
    names = Task.objects.filter(state="pending").values_list("name", flat=True)[:3]
    return ", ".join(names)


def _message(row: Notification) -> Message:
    kind = get_kind(row.kind) if row.kind else None
    [context] = [row.context] if kind is None else prepare(kind, [row])
    erased = kind is None and row.content is None  # sent already
    composed = None if erased else conf.channel(row.channel).channel.compose(row, kind, context)
    return Message(
        kind=row.kind,
        channel=row.channel,
        to=row.to,
        user=row.user,
        language=row.language,
        context=row.context,
        composed=composed,
        row=row,
    )
