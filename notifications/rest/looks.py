"""How the whole stands, and its queues, over the API."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from notifications import (
    bulk,
    conf,
    health,
    operations,
    overview,
    retention,
    statistics,
    turnstile,
    workers,
)
from notifications.bulk import Verb
from notifications.dead_letters import groups
from notifications.health import Level
from notifications.models import DeadLetter
from notifications.rest import queries, shapes
from notifications.rest.base import Pages, Throttle, View, described, may
from notifications.rest.rows import operation

GROUPS = 10  # that the dashboard shows
COUNTED = 10_000  # rows that a clean-up counts before it starts


class Live(View):
    """This process."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()

    @described(responses=shapes.LifeShape, auth=[])
    def get(self, request: Request) -> Response:
        """It answers."""
        return Response({"status": "live"})


class Ready(View):
    """This process and its database."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()

    @described(responses={200: shapes.LifeShape, 503: shapes.LifeShape}, auth=[])
    def get(self, request: Request) -> Response:
        """Whether it can serve. A backlog is no reason why not."""
        able = health.is_ready()
        status = "ready" if able else "not ready"
        return Response({"status": status}, status=200 if able else 503)


class Strangers(Throttle):
    """So many requests of one address that is nobody's."""

    def allow_request(self, request: Request, view: Any) -> bool:
        """Whether there were few enough."""
        self._wait = 0.0 if getattr(request.user, "pk", None) else turnstile.health.wait(request)
        return not self._wait

    def wait(self) -> float:
        """Seconds until the next may come."""
        return self._wait


class Whole(View):
    """The whole."""

    permission_classes = ()
    throttle_classes = (Throttle, Strangers)

    @described(
        responses={
            200: shapes.HealthShape,
            401: OpenApiResponse(description="The token holds no more"),
            429: OpenApiResponse(description="Too many requests"),
            503: shapes.HealthShape,
        },
        auth=[],
    )
    def get(self, request: Request) -> Response:
        """For staff healthy, degraded, or (503) failing, with reasons; for others ok or fail."""
        found = health.glance()
        staff = getattr(request.user, "is_staff", False) and may(request, "view_notification")
        body = found.as_dict() if staff else found.for_strangers()
        return Response(body, status=503 if found.level is Level.FAILING else 200)


class Dashboard(View):
    """What the person on call looks at first."""

    needs = {"get": ("view_notification", "view_deadletter")}

    @described(responses=shapes.DashboardShape)
    def get(self, request: Request) -> Response:
        """Health, the last day, topics, and the errors that grow."""
        facts = {
            "health": health.examine().as_dict(),
            "stats": _stats("24h"),
            "events": statistics.event_stats(),
            "dead_letters": groups()[:GROUPS],
        }
        return self.show(shapes.DashboardShape, facts)


class Stats(View):
    """Messages of a window."""

    needs = {"get": "view_notification"}

    @described(parameters=[shapes.WindowQuery], responses=shapes.StatsShape)
    def get(self, request: Request) -> Response:
        """What became of them, by channel and by step."""
        return self.show(shapes.StatsShape, _stats(self.asked(shapes.WindowQuery)["window"]))


class Queues(View):
    """All queues, the host's own too."""

    needs = {"get": "view_hold"}

    @described(responses=shapes.QueueShape(many=True))
    def get(self, request: Request) -> Response:
        """In the order of RQ_QUEUES."""
        return Response(shapes.QueueShape(statistics.all_queue_stats(), many=True).data)


class Workers(View):
    """The workers."""

    needs = {"get": "view_hold"}

    @described(responses=shapes.WorkerShape(many=True))
    def get(self, request: Request) -> Response:
        """Those that Redis knows of; 503 while it is away."""
        return Response(shapes.WorkerShape(workers.look_at_all(), many=True).data)


class Events(View):
    """The topics."""

    needs = {"get": "view_task"}

    @described(responses=shapes.EventShape(many=True))
    def get(self, request: Request) -> Response:
        """How the handlers of each fare."""
        return Response(shapes.EventShape(statistics.event_stats(), many=True).data)


class OneQueue(View):
    """One queue."""

    needs = {"get": "view_hold"}

    @described(responses=shapes.QueueShape)
    def get(self, request: Request, name: str) -> Response:
        """How it stands."""
        return _queue(self, name)


class Jobs(View):
    """What is in one queue."""

    needs = {"get": ("view_hold", "view_notification", "view_task")}
    pagination_class = Pages

    @described(
        parameters=[shapes.JobsQuery],
        responses=shapes.WorkShape(many=True),
    )
    def get(self, request: Request, name: str) -> Response:
        """Its messages or tasks, the newest first; of all but the failed the newest 200,000."""
        _known(name)
        tasks = conf.channel_of_queue(name) is None
        shape = shapes.TaskShape if tasks else shapes.NotificationShape
        return self.page(shape, queries.jobs(name, self.asked(shapes.JobsQuery)["state"]))


class Pause(View):
    """One queue, held."""

    needs = {"post": ("manage_queue", "view_hold")}

    @described(request=shapes.PauseShape, responses=shapes.QueueShape)
    def post(self, request: Request, name: str) -> Response:
        """Claim nothing more, on every machine within a second."""
        _known(name)
        given = self.read(shapes.PauseShape)
        left = queries.window_of(given["until"], timezone.now())
        operations.pause(name, reason=given["reason"], duration=left, by=request.user)
        return _queue(self, name)


class Resume(View):
    """One queue, let go."""

    needs = {"post": ("manage_queue", "view_hold")}

    @described(request=None, responses=shapes.QueueShape)
    def post(self, request: Request, name: str) -> Response:
        """Lift the holds on it, on its providers and on its old backlog."""
        _known(name)
        operations.resume(name, by=request.user)
        return _queue(self, name)


class Clean(View):
    """One queue, without what is old."""

    needs = {"post": ("manage_queue", "view_hold")}

    @described(request=shapes.CleanShape, responses={202: shapes.OperationShape})
    def post(self, request: Request, name: str) -> Response:
        """Remove what ended so long ago, in the background; the count stops at 10,000."""
        _known(name)
        given = self.read(shapes.CleanShape)
        count = retention.count(**given, queue=name, most=COUNTED)
        task = bulk.start_cleaning(name, **given, by=request.user)
        return operation(self, task, count)


class RetryFailed(View):
    """One queue's dead letters, tried again."""

    needs = {"post": ("retry_deadletter", "manage_queue")}

    @described(request=shapes.LimitShape, responses={202: shapes.OperationShape})
    def post(self, request: Request, name: str) -> Response:
        """All of them, or the `limit` oldest, in the background. 409 if there are none."""
        _known(name)
        limit = self.read(shapes.LimitShape).get("limit")
        ids = None
        if limit is not None:
            letters = DeadLetter.objects.filter(queue=name).order_by("pk")
            ids = list(letters.values_list("pk", flat=True)[:limit]) or [0]
        frozen = bulk.freeze_letters(ids=ids, match={"queue": name})
        task = bulk.start(Verb.RETRY, frozen, by=request.user)
        return operation(self, task, frozen.count)


class Empty(View):
    """One queue, with nothing left to send."""

    needs = {"post": ("manage_queue", "view_hold")}

    @described(request=shapes.ConfirmShape, responses={202: shapes.OperationShape})
    def post(self, request: Request, name: str) -> Response:
        """Cancel what waits, in the background. 400 unless `confirm` is its name, 409 if empty."""
        _known(name)
        if self.read(shapes.ConfirmShape)["confirm"] != name:
            raise ValidationError({"confirm": [f"Write {name!r} here."]})
        frozen = bulk.freeze_queue(name)
        task = bulk.start(Verb.EMPTY, frozen, by=request.user)
        return operation(self, task, frozen.count)


def _queue(view: View, name: str) -> Response:
    try:
        return view.show(shapes.QueueShape, statistics.queue_stats(name))
    except LookupError:
        raise Http404 from None


def _known(name: str) -> None:
    if name not in conf.queue_names() or not conf.owns_queue(name):
        raise Http404


def _stats(window: str) -> dict[str, Any]:
    found = overview.look(overview.WINDOWS[window])
    return {
        "window": window,
        "since": found.since,
        "whole": found.whole,
        "total": found.total,
        "channels": found.channels,
        "steps": [{"at": at, **_tally(tally)} for at, tally in found.steps],
    }


def _tally(tally: overview.Tally) -> dict[str, Any]:
    names = ("sent", "failed", "waiting", "withheld", "rate")
    return {name: getattr(tally, name) for name in names}
