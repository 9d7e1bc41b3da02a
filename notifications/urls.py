"""The addresses a host includes: `path("notifications/", include("notifications.urls"))`."""

from __future__ import annotations

from django.urls import path

from notifications import monitoring, webhooks

app_name = "notifications"

urlpatterns = [
    path("webhooks/<str:provider>/", webhooks.receive, name="webhook"),
    path("health/", monitoring.whole, name="health"),
    path("health/live/", monitoring.live, name="live"),
    path("health/ready/", monitoring.ready, name="ready"),
    path("metrics/", monitoring.metrics, name="metrics"),
]
