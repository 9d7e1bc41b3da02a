"""Messages, tasks and dead letters over the API."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError as BadValue
from django.db import router, transaction
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from notifications import bulk, conf, operations
from notifications.bulk import Verb
from notifications.dead_letters import groups
from notifications.dispatch import To
from notifications.errors import InvalidAddress
from notifications.kinds import all_kinds, get_kind
from notifications.models import DeadLetter, Notification, Priority, Task
from notifications.previews import preview
from notifications.redaction import describe
from notifications.rest import queries, shapes
from notifications.rest.base import Pages, View, described, may
from notifications.rest.problems import Conflict, Reused
from notifications.timeline import timeline

SAMPLE = 5  # dead letters that a dry run shows
LONGEST_KEY = 100  # characters of an Idempotency-Key

IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "pattern": f"^[!-~]{{1,{LONGEST_KEY}}}$"},
    OpenApiParameter.HEADER,
    description="the same one does it once",
)


def operation(view: View, task: Task, count: int) -> Response:
    """202: it is done in the background."""
    url = reverse("notifications_api:task", args=[task.pk], request=view.request)
    return view.show(shapes.OperationShape, {"task": task.pk, "url": url, "count": count}, 202)


# -- messages -------------------------------------------------------------------------------------


class Notifications(View):
    """All messages."""

    needs = {"get": "view_notification", "post": ("add_notification", "view_notification")}
    pagination_class = Pages

    @described(
        parameters=[shapes.NotificationsQuery], responses=shapes.NotificationShape(many=True)
    )
    def get(self, request: Request) -> Response:
        """Messages, the newest first. Filters without an index look through the newest 200,000."""
        asked = self.asked(shapes.NotificationsQuery)
        return self.page(shapes.NotificationShape, queries.notifications(asked, request))

    @described(
        parameters=[IDEMPOTENCY],
        request=shapes.WriteShape,
        responses={201: shapes.MadeShape},
    )
    def post(self, request: Request) -> Response:
        """Ask for a message of a kind: one row on each of its channels."""
        given = self.read(shapes.WriteShape)
        key, to = _idempotency_key(request), _recipient(given)
        options: dict[str, Any] = {
            name: given[name] for name in ("channels", "delay", "at") if name in given
        }
        if "priority" in given:
            options["priority"] = Priority[given["priority"].upper()]
        context, language = given.get("context", {}), given.get("language", "")
        with transaction.atomic(using=router.db_for_write(Notification)):
            # Before, because asking adds what the key has not brought on some channel yet; and
            # after, because another request may have come first meanwhile.
            _check_same(_of_key(key), given, to)
            rows = operations.ask(
                get_kind(given["kind"]), to=to, context=context, language=language, key=key,
                by=request.user, **options,
            )  # fmt: skip
            made = Notification.objects.filter(pk__in=[row.pk for row in rows]).order_by("pk")
            if key is not None:
                _check_same(made, given, to)
        return self.show(shapes.MadeShape, {"notifications": made}, 201)


class OneNotification(View):
    """One message."""

    needs = {"get": "view_notification", "delete": ("delete_notification", "view_notification")}

    @described(responses=shapes.WholeNotificationShape)
    def get(self, request: Request, pk: int) -> Response:
        """Where it stands, its attempts and its error."""
        rows = _messages().select_related("dead_letter")
        return self.show(shapes.WholeNotificationShape, self.find(rows, pk))

    @described(responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """Remove it with its history; what waits is never sent. 409 while it is being sent."""
        operations.remove(self.find(_messages(), pk), by=request.user)
        return Response(status=204)


class Timeline(View):
    """What happened to one message."""

    needs = {"get": "view_notification"}

    @described(responses=shapes.LineShape(many=True))
    def get(self, request: Request, pk: int) -> Response:
        """Newest first; at most 100 attempts, 100 receipts and 100 deeds of people."""
        row = self.find(_messages(), pk)
        lines = timeline(row, revealed=may(request, "view_content"))
        return Response(shapes.LineShape(lines, many=True).data)


class Preview(View):
    """What one message says."""

    needs = {"get": ("view_notification", "view_content")}

    @described(responses=shapes.PreviewShape)
    def get(self, request: Request, pk: int) -> Response:
        """As its providers get it. 409 if it was erased or cannot be made."""
        row = self.find(Notification.objects.all(), pk)
        try:
            message = preview(row)
        except Exception as error:  # templates may raise anything
            raise Conflict(describe(error)) from error
        kind = all_kinds().get(row.kind)
        facts = {
            "channel": row.channel,
            "sample": bool(kind and kind.secret),
            "message": shapes.describe_message(message),
        }
        return self.show(shapes.PreviewShape, facts)


class RetryNotification(View):
    """One message, tried again."""

    needs = {"post": ("retry_notification", "view_notification")}

    @described(request=None, responses={202: shapes.NotificationShape})
    def post(self, request: Request, pk: int) -> Response:
        """Send the same row again. 409 unless it ended unsent."""
        return _did(self, operations.retry, self.find(_messages(), pk))


class CancelNotification(View):
    """One message, withdrawn."""

    needs = {"post": ("cancel_notification", "view_notification")}

    @described(request=None, responses={202: shapes.NotificationShape})
    def post(self, request: Request, pk: int) -> Response:
        """Withdraw it. 409 once it is being sent or has ended."""
        return _did(self, operations.cancel, self.find(_messages(), pk))


class ResendNotification(View):
    """One message, sent once more."""

    needs = {"post": ("retry_notification", "view_notification")}

    @described(parameters=[IDEMPOTENCY], request=None, responses={201: shapes.NotificationShape})
    def post(self, request: Request, pk: int) -> Response:
        """Send it as a new row: the recipient gets it twice. 409 unless it went out."""
        row = self.find(Notification.objects.all(), pk)
        again = operations.resend(row, key=_idempotency_key(request) or "", by=request.user)
        return self.show(shapes.NotificationShape, again, 201)


class TestMessage(View):
    """A test."""

    needs = {"post": "send_test"}

    @described(request=shapes.TestShape, responses={202: shapes.NotificationShape})
    def post(self, request: Request) -> Response:
        """Send a kind with its sample, or the app's own test message, to oneself or to an address
        of REST["TEST_RECIPIENTS"]. 403 to any other; 429 beyond REST["TEST_RATE"]."""
        given = self.read(shapes.TestShape)
        person: Any = request.user
        row = operations.send_own_test(
            given["channel"],
            to=given.get("to", ""),
            kind=get_kind(given["kind"]) if "kind" in given else None,
            language=given["language"],
            by=person,
        )
        return self.show(shapes.NotificationShape, row, 202)


# -- tasks ----------------------------------------------------------------------------------------


class Tasks(View):
    """All tasks."""

    needs = {"get": "view_task"}
    pagination_class = Pages

    @described(parameters=[shapes.TasksQuery], responses=shapes.TaskShape(many=True))
    def get(self, request: Request) -> Response:
        """Tasks, the newest first. Filters without an index look through the newest 200,000."""
        return self.page(shapes.TaskShape, queries.tasks(self.asked(shapes.TasksQuery)))


class OneTask(View):
    """One task."""

    needs = {"get": "view_task", "delete": ("delete_task", "view_task")}

    @described(responses=shapes.WholeTaskShape)
    def get(self, request: Request, pk: int) -> Response:
        """State, progress, result, attempts and error."""
        rows = Task.objects.select_related("dead_letter")
        return self.show(shapes.WholeTaskShape, self.find(rows, pk))

    @described(responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """Remove it; what waits is never run. 409 while it runs."""
        operations.remove(self.find(Task.objects.all(), pk), by=request.user)
        return Response(status=204)


class RetryTask(View):
    """One task, run again."""

    needs = {"post": ("retry_notification", "view_task")}

    @described(request=None, responses={202: shapes.TaskShape})
    def post(self, request: Request, pk: int) -> Response:
        """Run the same row again. 409 unless it ended without success."""
        return _did(self, operations.retry, self.find(Task.objects.all(), pk))


class CancelTask(View):
    """One task, withdrawn."""

    needs = {"post": ("cancel_notification", "view_task")}

    @described(request=None, responses={202: shapes.TaskShape})
    def post(self, request: Request, pk: int) -> Response:
        """Withdraw it, or stop one of the app's bulk tasks. 409 once another one runs or ended."""
        row = self.find(Task.objects.all(), pk)
        return _did(self, bulk.stop if bulk.can_stop(row) else operations.cancel, row)


# -- dead letters ---------------------------------------------------------------------------------


class DeadLetters(View):
    """All dead letters."""

    needs = {"get": "view_deadletter"}
    pagination_class = Pages

    @described(parameters=[shapes.MatchShape], responses=shapes.DeadLetterShape(many=True))
    def get(self, request: Request) -> Response:
        """Dead letters, the newest first."""
        asked = self.asked(shapes.MatchShape)
        return self.page(shapes.DeadLetterShape, queries.letters(asked))


class Groups(View):
    """Dead letters by what they died of."""

    needs = {"get": "view_deadletter"}

    @described(responses=shapes.GroupShape(many=True))
    def get(self, request: Request) -> Response:
        """At most 200 groups, the one that grew last first."""
        return Response(shapes.GroupShape(groups(), many=True).data)


class OneDeadLetter(View):
    """One dead letter."""

    needs = {"get": "view_deadletter", "delete": ("delete_deadletter", "view_deadletter")}

    @described(responses=shapes.WholeDeadLetterShape)
    def get(self, request: Request, pk: int) -> Response:
        """With its traceback."""
        return self.show(shapes.WholeDeadLetterShape, self.find(DeadLetter.objects.all(), pk))

    @described(responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        """Discard it without sending; its row stays dead."""
        operations.discard(self.find(DeadLetter.objects.all(), pk), by=request.user)
        return Response(status=204)


class RetryDeadLetter(View):
    """One dead letter, tried again."""

    needs = {"post": ("retry_deadletter", "view_deadletter")}

    @described(request=None, responses={202: shapes.DeadLetterShape})
    def post(self, request: Request, pk: int) -> Response:
        """Send or run its row again, and remove the letter."""
        letter = self.find(DeadLetter.objects.select_related("notification", "task"), pk)
        shown = self.show(shapes.DeadLetterShape, letter, 202)
        operations.retry(letter.work, by=request.user)
        return shown


class _Many(View):
    """Dead letters, chosen or all that match, in the background."""

    verb: Verb

    def post(self, request: Request) -> Response:
        """See the subclasses."""
        given = self.read(shapes.ManyShape)
        frozen = bulk.freeze_letters(ids=given.get("ids"), match=given.get("filter"))
        if given["dry_run"]:
            sample = bulk.letters_of(frozen).defer("traceback").order_by("-pk")[:SAMPLE]
            facts = {"count": frozen.count, "sample": sample if frozen.count else []}
            return self.show(shapes.CountShape, facts)
        expected = given.get("expected_count", frozen.count)
        if expected != frozen.count:
            raise Conflict(f"There are {frozen.count} now, not {expected}.")
        canary = given["canary"] if self.verb is Verb.RETRY else 0
        task = bulk.start(self.verb, frozen, canary=canary, by=request.user)
        return operation(self, task, frozen.count)


_MANY: dict[int, Any] = {200: shapes.CountShape, 202: shapes.OperationShape}


class RetryMany(_Many):
    """Many dead letters, tried again."""

    needs = {"post": ("retry_deadletter", "view_deadletter")}
    verb = Verb.RETRY

    @described(request=shapes.ManyShape, responses=_MANY, operation_id="dead_letters_retry_many")
    def post(self, request: Request) -> Response:
        """Send their rows again. 409 if there are more or fewer than expected, or none."""
        return super().post(request)


class DiscardMany(_Many):
    """Many dead letters, removed."""

    needs = {"post": ("delete_deadletter", "view_deadletter")}
    verb = Verb.DISCARD

    @described(request=shapes.ManyShape, responses=_MANY)
    def post(self, request: Request) -> Response:
        """Remove them without sending. 409 if there are more or fewer than expected, or none."""
        return super().post(request)


# -- parts ----------------------------------------------------------------------------------------


def _messages() -> Any:
    return Notification.objects.defer("content")


def _did(view: View, verb: Callable[..., None], row: Any) -> Response:
    """Do `verb` to `row`, and show what it is now."""
    verb(row, by=view.request.user)
    row.refresh_from_db()
    shape = shapes.TaskShape if isinstance(row, Task) else shapes.NotificationShape
    return view.show(shape, row, 202)


def _recipient(given: dict[str, Any]) -> To:
    """The address, or the user. Raises ValidationError."""
    if "user" not in given:
        address: str = given["to"]
        return address
    try:
        return get_user_model()._default_manager.get(pk=given["user"])
    except (get_user_model().DoesNotExist, ValueError, OverflowError, BadValue):
        raise ValidationError({"user": ["There is no such user."]}) from None


def _of_key(key: str | None) -> QuerySet[Notification]:
    """The messages that were asked for with this Idempotency-Key, on whatever channel."""
    rows = Notification.objects.defer("content").filter(instead_of=None)
    return rows.none() if key is None else rows.filter(channel__in=conf.channels(), key=key)


def _check_same(rows: Iterable[Notification], given: dict[str, Any], to: To) -> None:
    """Raise Reused unless each of `rows` is the message that the request asks for."""
    for row in rows:
        same = (
            row.kind == given["kind"]
            and row.context == given.get("context", {})
            and given.get("language") in (None, "", row.language)
        )
        if not (same and _is_for(row, to)):
            raise Reused("This Idempotency-Key came with another message before.")


def _is_for(row: Notification, to: To) -> bool:
    if not isinstance(to, str):
        return bool(row.user_id == getattr(to, "pk", None))
    try:
        address = conf.channel(row.channel).channel.clean(to)
    except InvalidAddress:
        return False
    return row.user_id is None and row.to == address


def _idempotency_key(request: Request) -> str | None:
    """The request's key, which no other person's can be. Raises ValidationError."""
    key: str | None = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not re.fullmatch(rf"[!-~]{{1,{LONGEST_KEY}}}", key):
        text = f"Must be 1 to {LONGEST_KEY} letters, digits or signs of ASCII."
        raise ValidationError({"Idempotency-Key": [text]})
    return f"api-{request.user.pk}-{key}"
