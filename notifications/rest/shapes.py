"""What goes in and comes out, as serializers: the OpenAPI document is made from them.

Every time is ISO 8601 in UTC, whatever the host's formats are. Recipients are masked and contents
left out (null) for those without `view_content`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from notifications import bulk, conf
from notifications.kinds import all_kinds
from notifications.message import shown
from notifications.models import Notification, Priority, State
from notifications.overview import WINDOWS
from notifications.redaction import mask
from notifications.rest.base import may
from notifications.retention import FINAL
from notifications.timeline import attempts

Shape = serializers.Serializer[Any]

LONGEST_TEXT, LONGEST_NAME = 300, 200
MOST_CHOSEN = 1000  # dead letters named one by one in a request
LONGEST_DELAY = 366 * 86_400  # seconds
OLDEST = timedelta(days=36_500)


class Moment(serializers.DateTimeField):
    """A time."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            format="iso-8601", input_formats=["iso-8601"], default_timezone=UTC, **options
        )


class Plain(serializers.CharField):
    """Text without NUL, which PostgreSQL cannot hold, and without half a surrogate pair."""

    def to_internal_value(self, data: Any) -> str:
        """The text."""
        text: str = super().to_internal_value(data)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise serializers.ValidationError("This is no text.") from None
        return text


def _plain(**options: Any) -> Plain:
    return Plain(max_length=options.pop("max_length", LONGEST_NAME), **options)


class Known(serializers.CharField):
    """One of what is known when it is asked for."""

    def __init__(self, known: Callable[[], Any], **options: Any) -> None:
        self._known = known
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> str:
        """The name."""
        known = list(self._known())
        if data not in known:
            raise serializers.ValidationError(f"There are: {', '.join(known)}.")
        return str(data)


def _priorities() -> list[str]:
    return [each.name.lower() for each in Priority]


# -- what comes out -----------------------------------------------------------------------------


class QueueShape(Shape):
    """One queue. Counts stop at 10,000; completed and failed are of the last day."""

    queue = serializers.CharField()
    waiting = serializers.IntegerField()
    active = serializers.IntegerField()
    delayed = serializers.IntegerField()
    completed = serializers.IntegerField()
    failed = serializers.IntegerField()
    dlq = serializers.IntegerField()
    paused = serializers.CharField(help_text="why nothing is claimed; empty if it is")
    oldest = serializers.FloatField(allow_null=True, help_text="seconds the oldest waits")


class EventShape(Shape):
    """The handlers of one topic. Counts stop at 1,000; completed and failed are of the last day."""

    topic = serializers.CharField()
    waiting = serializers.IntegerField()
    active = serializers.IntegerField()
    delayed = serializers.IntegerField()
    completed = serializers.IntegerField()
    failed = serializers.IntegerField()
    dlq = serializers.IntegerField()


class HealthShape(Shape):
    """How the whole is; reasons and queues for staff only. Others read ok or fail."""

    status = serializers.ChoiceField(["healthy", "degraded", "failing", "ok", "fail"])
    reasons = serializers.ListField(child=serializers.CharField(), required=False)
    queues = QueueShape(many=True, required=False)


class LifeShape(Shape):
    """Whether this process serves."""

    status = serializers.CharField()


class TallyShape(Shape):
    """Messages by what became of them."""

    sent = serializers.IntegerField()
    failed = serializers.IntegerField()
    waiting = serializers.IntegerField()
    withheld = serializers.IntegerField()
    rate = serializers.FloatField(allow_null=True, help_text="sent, in per cent of sent and failed")


class StepShape(TallyShape):
    """The same in one step of the window."""

    at = Moment()


class StatsShape(Shape):
    """The messages of a window."""

    window = serializers.ChoiceField(list(WINDOWS))
    since = Moment(help_text="from when on they are counted")
    whole = serializers.BooleanField(help_text="that is the window's beginning")
    total = TallyShape()
    channels = serializers.DictField(child=TallyShape())
    steps = StepShape(many=True)


class GroupShape(Shape):
    """Dead letters that died of the same."""

    fingerprint = serializers.CharField()
    count = serializers.IntegerField()
    first_at = Moment()
    last_at = Moment()
    queue = serializers.CharField(source="newest.queue")
    name = serializers.CharField(source="newest.name")
    error = serializers.CharField(source="newest.error")
    code = serializers.CharField(source="newest.code")
    reason = serializers.CharField(source="newest.reason")


class DashboardShape(Shape):
    """What the person on call looks at first."""

    health = HealthShape()
    stats = StatsShape()
    events = EventShape(many=True)
    dead_letters = GroupShape(many=True, help_text="the ten groups that grew last")


class WorkerShape(Shape):
    """One worker, as it last told Redis."""

    name = serializers.CharField()
    host = serializers.CharField()
    pid = serializers.IntegerField(allow_null=True)
    queues = serializers.ListField(child=serializers.CharField())
    state = serializers.CharField()
    since = Moment(allow_null=True)
    seen_at = Moment(allow_null=True)


class WorkShape(Shape):
    """What messages and tasks share."""

    id = serializers.IntegerField()
    queue = serializers.CharField()
    state = serializers.ChoiceField([each.value for each in State])
    priority = serializers.SerializerMethodField()
    attempts = serializers.IntegerField()
    about = serializers.SerializerMethodField(help_text="app.model:key")
    key = serializers.CharField(allow_null=True)
    reason = serializers.CharField()
    created_at = Moment()
    due_at = Moment()
    settled_at = Moment(allow_null=True)
    expires_at = Moment(allow_null=True)

    def get_priority(self, row: Any) -> str:
        """Its name."""
        return Priority(row.priority).name.lower()

    def get_about(self, row: Any) -> str | None:
        """What it is about."""
        return f"{row.about_type}:{row.about_id}" if row.about_id else None

    def _sees(self) -> bool:
        return may(self.context["request"], "view_content")


class NotificationShape(WorkShape):
    """One message."""

    kind = serializers.CharField()
    channel = serializers.CharField()
    to = serializers.SerializerMethodField(help_text="masked without view_content")
    language = serializers.CharField()
    context = serializers.SerializerMethodField(  # type: ignore[assignment]
        help_text="null without view_content"
    )
    resend_of = serializers.IntegerField(source="resend_of_id", allow_null=True)
    instead_of = serializers.IntegerField(source="instead_of_id", allow_null=True)
    erased_at = Moment(allow_null=True)

    def get_to(self, row: Notification) -> str:
        """The recipient."""
        return row.to if self._sees() or not row.to else mask(row.to)

    def get_context(self, row: Notification) -> dict[str, Any] | None:
        """Its facts."""
        return row.context if self._sees() else None


class TaskShape(WorkShape):
    """One call of a function."""

    name = serializers.CharField()
    topic = serializers.CharField()
    progress = serializers.IntegerField(help_text="per cent")
    payload = serializers.SerializerMethodField(help_text="null without view_content")
    result = serializers.SerializerMethodField(help_text="null without view_content")

    def get_payload(self, row: Any) -> dict[str, Any] | None:
        """Its arguments."""
        return row.payload if self._sees() else None

    @extend_schema_field(OpenApiTypes.ANY)
    def get_result(self, row: Any) -> Any:
        """What it returned. What the app's own bulk tasks did is no secret."""
        return row.result if self._sees() or bulk.describe(row) else None


class DeadLetterShape(Shape):
    """One dead letter."""

    id = serializers.IntegerField()
    notification = serializers.IntegerField(source="notification_id", allow_null=True)
    task = serializers.IntegerField(source="task_id", allow_null=True)
    queue = serializers.CharField()
    name = serializers.CharField()
    error = serializers.CharField()
    code = serializers.CharField()
    reason = serializers.CharField()
    attempts = serializers.IntegerField()
    fingerprint = serializers.CharField()
    created_at = Moment()


class WholeDeadLetterShape(DeadLetterShape):
    """With what is long."""

    traceback = serializers.CharField()


class AttemptShape(Shape):
    """One attempt."""

    number = serializers.IntegerField()
    at = Moment()
    provider = serializers.CharField()
    outcome = serializers.CharField()
    code = serializers.CharField()
    text = serializers.CharField()
    message_id = serializers.CharField(help_text="masked without view_content")
    milliseconds = serializers.IntegerField()


class _Whole(WorkShape):
    """What one row has beside what a list shows of it."""

    tries = serializers.SerializerMethodField(help_text="the 100 newest attempts, oldest first")
    error = serializers.SerializerMethodField(
        help_text="its dead letter; null if there is none, and without view_deadletter"
    )

    @extend_schema_field(AttemptShape(many=True))
    def get_tries(self, row: Any) -> Any:
        """What became of each."""
        return AttemptShape(attempts(row, revealed=self._sees()), many=True).data

    @extend_schema_field(WholeDeadLetterShape(allow_null=True))
    def get_error(self, row: Any) -> Any:
        """Why it gave up."""
        letter = getattr(row, "dead_letter", None)
        if letter is None or not may(self.context["request"], "view_deadletter"):
            return None
        return WholeDeadLetterShape(letter).data


class WholeNotificationShape(_Whole, NotificationShape):
    """One message with its attempts and its error."""


class WholeTaskShape(_Whole, TaskShape):
    """One task with its attempts and its error."""


class LineShape(Shape):
    """One thing that happened; what does not apply is null."""

    at = Moment()
    what = serializers.ChoiceField(["asked", "attempt", "receipt", "person", "ended"])
    number = serializers.IntegerField(allow_null=True)
    provider = serializers.CharField(allow_null=True)
    outcome = serializers.CharField(
        allow_null=True, help_text="or the receipt's fate, or the state"
    )
    code = serializers.CharField(allow_null=True)
    text = serializers.CharField(allow_null=True)
    message_id = serializers.CharField(allow_null=True, help_text="masked without view_content")
    milliseconds = serializers.IntegerField(allow_null=True)
    by = serializers.CharField(allow_null=True)


class PreviewShape(Shape):
    """What the providers get, but for the keys of a browser; which fields there are depends on the
    channel."""

    channel = serializers.CharField()
    sample = serializers.BooleanField(help_text="made from the kind's sample: it holds a secret")
    message = serializers.DictField()


class OperationShape(Shape):
    """Work in the background: look at `tasks/{task}/` how far it is."""

    task = serializers.IntegerField()
    url = serializers.CharField()
    count = serializers.IntegerField(help_text="rows it is about")


class CountShape(Shape):
    """What would be done."""

    count = serializers.IntegerField()
    sample = DeadLetterShape(many=True)


class MadeShape(Shape):
    """The messages that were asked for."""

    notifications = NotificationShape(many=True)


def describe_message(message: Any) -> dict[str, Any]:
    """A composed message as JSON holds it: attachments by name and size."""
    return {name: _plain_value(value) for name, value in shown(message).items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, dict):
        return {str(name): _plain_value(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_value(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


# -- what goes in ---------------------------------------------------------------------------------


class Asked(Shape):
    """What is sent. A name that is not known is refused: a filter with a slip of the pen would
    otherwise mean everything."""

    def to_internal_value(self, data: Any) -> Any:
        """The values. Raises ValidationError."""
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, dict) else []
        if unknown:
            known = ", ".join(self.fields)
            text = f"This is not known; there are: {known}."
            raise serializers.ValidationError({str(name): [text] for name in unknown})
        return super().to_internal_value(data)


class WindowQuery(Asked):
    """How far back."""

    window = serializers.ChoiceField(list(WINDOWS), default="24h")


class RowsQuery(Asked):
    """Which rows; all that are given must hold."""

    state = serializers.ChoiceField([each.value for each in State], required=False)
    queue = _plain(required=False)
    about = serializers.RegexField(
        r"^[^\x00:]+:[^\x00]+$", required=False, max_length=165, help_text="app.model:key"
    )
    key = _plain(required=False)


class NotificationsQuery(RowsQuery):
    """Which messages."""

    kind = _plain(required=False)
    channel = _plain(required=False)
    to = _plain(required=False, max_length=320, help_text="exactly; needs view_content")
    message_id = _plain(required=False, help_text="the provider's")


class TasksQuery(RowsQuery):
    """Which tasks."""

    name = _plain(required=False)
    topic = _plain(required=False)


class JobsQuery(Asked):
    """Which of a queue's rows."""

    state = serializers.ChoiceField(["waiting", "active", "delayed", "completed", "failed"])


class MatchShape(Asked):
    """Dead letters with these values."""

    queue = _plain(required=False)
    name = _plain(required=False)
    error = _plain(required=False)
    code = _plain(required=False)
    fingerprint = _plain(required=False)


class ManyShape(Asked):
    """Which dead letters: `ids`, or all that match the `filter`."""

    ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        required=False, min_length=1, max_length=MOST_CHOSEN,
    )  # fmt: skip
    filter = MatchShape(required=False)
    dry_run = serializers.BooleanField(default=False)
    expected_count = serializers.IntegerField(
        required=False, min_value=0, help_text="409 if there are more or fewer by now"
    )
    canary = serializers.IntegerField(
        default=0, min_value=0, max_value=100, help_text="sent first; the others if they arrive"
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """One of both."""
        if ("ids" in attrs) == ("filter" in attrs):
            raise serializers.ValidationError({"ids": "Give either ids or filter."})
        return attrs


class PauseShape(Asked):
    """Why, and until when."""

    reason = _plain(required=False, default="", allow_blank=True)
    until = Moment(required=False, allow_null=True, default=None)

    def validate_until(self, at: Any) -> Any:
        """Not over yet."""
        if at is not None and at <= timezone.now():
            raise serializers.ValidationError("That is over.")
        return at


class CleanShape(Asked):
    """What is removed."""

    states = serializers.ListField(
        child=serializers.ChoiceField(sorted(FINAL)), min_length=1, max_length=len(FINAL)
    )
    older_than = _plain(max_length=20, help_text='"30d", "12h"')

    def validate_older_than(self, text: str) -> timedelta:
        """As the settings write it."""
        try:
            age = conf.parse_duration(text)
        except (ImproperlyConfigured, OverflowError) as error:
            raise serializers.ValidationError(str(error)) from None
        if age > OLDEST:
            raise serializers.ValidationError(f"At most {OLDEST.days} days.")
        return age


class LimitShape(Asked):
    """How many at most."""

    limit = serializers.IntegerField(required=False, min_value=1, max_value=bulk.MOST_CHOSEN)


class ConfirmShape(Asked):
    """The queue's name once more."""

    confirm = serializers.CharField(max_length=LONGEST_NAME)


class WriteShape(Asked):
    """A message to ask for."""

    kind = Known(all_kinds)
    to = _plain(required=False, max_length=320, help_text="an address; or `user`")
    user = _plain(required=False, max_length=64, help_text="a user's primary key")
    channels = serializers.ListField(
        child=Known(conf.channels), required=False, min_length=1, max_length=10
    )
    context = serializers.DictField(required=False)  # type: ignore[assignment]
    language = _plain(required=False, max_length=16)
    priority = serializers.ChoiceField(_priorities(), required=False)
    delay = serializers.FloatField(
        required=False, min_value=0, max_value=LONGEST_DELAY, help_text="seconds"
    )
    at = Moment(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Whom, once; when, once."""
        if ("to" in attrs) == ("user" in attrs):
            raise serializers.ValidationError({"to": "Give either to or user."})
        if "delay" in attrs and "at" in attrs:
            raise serializers.ValidationError({"at": "Give either delay or at."})
        return attrs


class TestShape(Asked):
    """A test message."""

    channel = Known(conf.channels)
    to = _plain(
        required=False, max_length=320, help_text="one's own address, or one that is listed"
    )
    kind = Known(all_kinds, required=False)
    language = _plain(required=False, max_length=16, default="")
