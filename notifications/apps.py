"""Start of the app: find the kinds and handlers of every installed app, and the checks."""

from importlib import import_module
from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class NotificationsConfig(AppConfig):
    """Django's handle on the app."""

    name = "notifications"
    verbose_name = _("Notifications")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import `<app>/notifications.py` of every installed app, for its kinds and handlers."""
        autodiscover_modules("notifications")
        for module in (
            "alerts",
            "bulk",
            "checks",
            "webhooks",
        ):  # register themselves; need the apps to be loaded
            import_module(f"notifications.{module}")
        post_migrate.connect(_stamp, sender=self)


def _stamp(using: str, **kwargs: Any) -> None:
    """The first `migrate` says which environment the database belongs to."""
    import_module("notifications.holds").stamp(using)
