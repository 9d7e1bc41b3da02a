"""What is paused, by whom, why and until when."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications import operations
from notifications.admin.base import ReadOnlyAdmin
from notifications.models import Hold


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    """Open holds first; lifted ones are history."""

    list_display = (
        "scope", "name", "cause", "reason", "by", "created_at", "until", "lifted_at",
    )  # fmt: skip
    list_filter = ("scope", "cause", ("lifted_at", admin.EmptyFieldListFilter))
    ordering = ("lifted_at", "-id")
    actions = ("lift_chosen",)

    @admin.action(description=gettext_lazy("Lift"), permissions=["manage"])
    def lift_chosen(self, request: HttpRequest, queryset: QuerySet[Hold]) -> None:
        """Let what is held go on."""
        lifted = sum(operations.lift(hold, by=request.user) for hold in queryset)
        messages.success(request, _("%(count)s lifted.") % {"count": lifted})

    def has_manage_permission(self, request: HttpRequest) -> bool:
        """For `lift_chosen`."""
        return self.allowed(request, "manage_queue")
