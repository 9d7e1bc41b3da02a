"""Pages that are no list of rows; see `notifications.models.screens`."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.text import capfirst

from notifications.admin.base import ReadOnlyAdmin


class ScreenAdmin(ReadOnlyAdmin):
    """One page in the place of a list, for those with `permission`."""

    permission: ClassVar[str]
    template: ClassVar[str]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may look at this page."""
        return self.allowed(request, self.permission)

    def get_urls(self) -> list[URLPattern]:
        """The page alone; nothing here has pages of its own rows."""
        name = f"notifications_{self.opts.model_name}_changelist"
        return [path("", self.admin_site.admin_view(self.changelist_view), name=name)]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page."""
        return self.draw(request, self.template, self.values(request))

    def values(self, request: HttpRequest) -> dict[str, Any]:
        """What the page shows."""
        raise NotImplementedError

    def draw(self, request: HttpRequest, template: str, values: dict[str, Any]) -> HttpResponse:
        """A page of this screen. Raises PermissionDenied."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "title": capfirst(self.opts.verbose_name_plural),
            **values,
        }
        return TemplateResponse(request, f"admin/notifications/{template}", context)
