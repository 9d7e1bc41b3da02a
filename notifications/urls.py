"""The addresses a host includes: `path("notifications/", include("notifications.urls"))`."""

from __future__ import annotations

from django.urls import path

from notifications import webhooks

app_name = "notifications"

urlpatterns = [
    path("webhooks/<str:provider>/", webhooks.receive, name="webhook"),
]
