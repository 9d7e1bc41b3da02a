"""Pages of the admin that show no table of their own.

Django's list of apps and its sidebar are made of models; a proxy puts a page there, under the same
permissions as before: proxies have none of their own, and no table.
"""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from notifications.models.hold import Hold


class Overview(Hold):
    """How everything stands, with charts."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("overview")
        verbose_name_plural = _("overview")


class Queue(Hold):
    """How each queue stands; pause, resume, clean, empty."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("queue")
        verbose_name_plural = _("queues")


class Worker(Hold):
    """Who works, where, and on what."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("worker")
        verbose_name_plural = _("workers")


class Message(Hold):
    """The kinds of messages, with their templates and sample data."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("template")
        verbose_name_plural = _("templates")


class Event(Hold):
    """The topics, who hears them, and how they fare."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("event")
        verbose_name_plural = _("events")


class Deed(Hold):
    """What people did to this app's rows."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("audit log")
        verbose_name_plural = _("audit log")
