"""The API's addresses: `path("api/", include("notifications.rest.urls"))`."""

from __future__ import annotations

from django.http import Http404
from django.urls import path, re_path
from rest_framework.request import Request
from rest_framework.response import Response

from notifications.monitoring import metrics
from notifications.rest import document, looks, rows
from notifications.rest.base import View, described


class Nowhere(View):
    """Any other address."""

    @described(exclude=True)
    def get(self, request: Request) -> Response:
        """404, as problem details."""
        raise Http404

    post = delete = get


app_name = "notifications_api"

urlpatterns = [
    path("health/", looks.Whole.as_view()),
    path("health/live/", looks.Live.as_view()),
    path("health/ready/", looks.Ready.as_view()),
    path("metrics/", metrics),
    path("dashboard/", looks.Dashboard.as_view()),
    path("stats/", looks.Stats.as_view()),
    path("queues/", looks.Queues.as_view()),
    path("queues/<str:name>/", looks.OneQueue.as_view()),
    path("queues/<str:name>/jobs/", looks.Jobs.as_view()),
    path("queues/<str:name>/pause/", looks.Pause.as_view()),
    path("queues/<str:name>/resume/", looks.Resume.as_view()),
    path("queues/<str:name>/clean/", looks.Clean.as_view()),
    path("queues/<str:name>/retry-failed/", looks.RetryFailed.as_view()),
    path("queues/<str:name>/empty/", looks.Empty.as_view()),
    path("workers/", looks.Workers.as_view()),
    path("events/", looks.Events.as_view()),
    path("notifications/", rows.Notifications.as_view()),
    path("notifications/<int:pk>/", rows.OneNotification.as_view()),
    path("notifications/<int:pk>/timeline/", rows.Timeline.as_view()),
    path("notifications/<int:pk>/preview/", rows.Preview.as_view()),
    path("notifications/<int:pk>/retry/", rows.RetryNotification.as_view()),
    path("notifications/<int:pk>/cancel/", rows.CancelNotification.as_view()),
    path("notifications/<int:pk>/resend/", rows.ResendNotification.as_view()),
    path("test-message/", rows.TestMessage.as_view()),
    path("tasks/", rows.Tasks.as_view()),
    path("tasks/<int:pk>/", rows.OneTask.as_view(), name="task"),
    path("tasks/<int:pk>/retry/", rows.RetryTask.as_view()),
    path("tasks/<int:pk>/cancel/", rows.CancelTask.as_view()),
    path("dead-letters/", rows.DeadLetters.as_view()),
    path("dead-letters/groups/", rows.Groups.as_view()),
    path("dead-letters/retry/", rows.RetryMany.as_view()),
    path("dead-letters/discard/", rows.DiscardMany.as_view()),
    path("dead-letters/<int:pk>/", rows.OneDeadLetter.as_view()),
    path("dead-letters/<int:pk>/retry/", rows.RetryDeadLetter.as_view()),
    path("schema/", document.Schema.as_view(), name="schema"),
    path("docs/", document.Docs.as_view(), name="docs"),
    path("", Nowhere.as_view(), name="root"),
    re_path(".*", Nowhere.as_view()),
]
