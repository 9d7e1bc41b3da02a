"""The kinds of messages: how each looks on each channel and in each language, by its sample."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.clickjacking import xframe_options_sameorigin

from notifications import conf, operations
from notifications.admin import pictures
from notifications.admin.screen import ScreenAdmin
from notifications.admin.work import read_kind
from notifications.errors import NotificationsError, TooMany
from notifications.kinds import Kind, all_kinds
from notifications.message import Email
from notifications.models import Priority
from notifications.models.screens import Message
from notifications.previews import preview_kind


@admin.register(Message)
class MessageAdmin(ScreenAdmin):
    """All kinds, and a page for each on each of its channels."""

    permission = "view_notification"
    template = "messages.html"

    def get_urls(self) -> list[URLPattern]:
        """The page of one kind on one channel, its picture, and the test."""
        wrap, name = self.admin_site.admin_view, "notifications_message"
        one = "<str:kind>/<slug:channel>/"
        return [
            *super().get_urls(),
            path(one, wrap(self.one_view), name=f"{name}_one"),
            path(f"{one}picture/", wrap(self.picture_view), name=f"{name}_picture"),
            path(f"{one}test/", wrap(self.test_view), name=f"{name}_test"),
        ]

    def values(self, request: HttpRequest) -> dict[str, Any]:
        """Every kind, with links to its channels."""
        kinds = [
            {
                "name": name,
                "title": read_kind(name),
                "secret": kind.secret,
                "category": kind.category,
                "priority": Priority(kind.priority).label,
                "channels": [
                    (channel, self.page("one", name, channel)) for channel in _channels(kind)
                ],
            }
            for name, kind in all_kinds().items()
        ]
        return {"kinds": kinds}

    def one_view(self, request: HttpRequest, kind: str, channel: str) -> HttpResponse:
        """One kind on one channel, made from its sample."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        found, language = _find(kind, channel), _language(request)
        picture = f"{self.page('picture', kind, channel)}?language={language}"
        values: dict[str, Any] = {
            "title": read_kind(kind),
            "crumb": f"{read_kind(kind)}, {channel}",
            "list": self.page("changelist"),
            "channel": channel,
            "channels": [(each, self.page("one", kind, each)) for each in _channels(found)],
            "language": language,
            "languages": list(settings.LANGUAGES),
            "picture": picture,
            "test": self.page("test", kind, channel) if self.allowed(request, "send_test") else "",
        }
        try:
            message = preview_kind(found, channel, language=language)
        except Exception as error:  # templates may raise anything
            values["error"] = pictures.explain(error)
        else:
            values |= {"message": message, "tall": isinstance(message, Email)}
        return self.draw(request, "message.html", values)

    @method_decorator(xframe_options_sameorigin)
    def picture_view(self, request: HttpRequest, kind: str, channel: str) -> HttpResponse:
        """The message, for the sandboxed frame of the page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        found = _find(kind, channel)
        try:
            message = preview_kind(found, channel, language=_language(request))
        except Exception as error:
            return pictures.refuse(error)
        return pictures.show(request, message)

    def test_view(self, request: HttpRequest, kind: str, channel: str) -> HttpResponse:
        """Send the sample to the person who asks, to their own address."""
        if refusal := self.check_post(request, "send_test"):
            return refusal
        assert isinstance(request.user, AbstractBaseUser)
        found, language = _find(kind, channel), _language(request)
        back = f"{self.page('one', kind, channel)}?language={language}"
        try:
            row = operations.send_own_test(channel, by=request.user, kind=found, language=language)
        except TooMany as error:
            text = ngettext(
                "Enough tests for now: the next may go out in %(count)d second.",
                "Enough tests for now: the next may go out in %(count)d seconds.",
                round(error.wait),
            )
            messages.error(request, text % {"count": round(error.wait)})
            return HttpResponseRedirect(back)
        except NotificationsError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(back)
        messages.success(request, _("A test is on its way to you."))
        if self.has_view_permission(request):
            back = reverse("admin:notifications_notification_change", args=[row.pk])
        return HttpResponseRedirect(back)


def _find(kind: str, channel: str) -> type[Kind]:
    """A kind that goes out on this channel. Raises Http404."""
    found = all_kinds().get(kind)
    if found is None or channel not in _channels(found):
        raise Http404
    return found


def _channels(kind: type[Kind]) -> list[str]:
    """Its channels that are configured, in the order of the settings."""
    return [name for name in conf.channels() if name in kind.channel_names()]


def _language(request: HttpRequest) -> str:
    asked = (request.POST if request.method == "POST" else request.GET).get("language", "")
    return asked if asked in dict(settings.LANGUAGES) else settings.LANGUAGE_CODE
