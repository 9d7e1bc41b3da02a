"""Tokens of the REST API: everybody makes and revokes their own."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import AbstractBaseUser
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications.admin.base import NarrowAdmin
from notifications.admin.standing import age, ago, noted, soon
from notifications.models import ApiToken
from notifications.tokens import make_token, revoke_token

if TYPE_CHECKING:
    TokenFormBase = forms.ModelForm[ApiToken]
else:
    TokenFormBase = forms.ModelForm

LONGEST = 3650  # days


class TokenForm(TokenFormBase):
    """What it is for, and how long."""

    days = forms.IntegerField(
        label=gettext_lazy("Days it lasts"), initial=90, min_value=1, max_value=LONGEST
    )

    class Meta:
        model = ApiToken
        fields = ("name",)


@admin.register(ApiToken)
class ApiTokenAdmin(NarrowAdmin):
    """One's own, newest first; a superuser sees all, and makes none for others either."""

    form = TokenForm
    list_display = ("name", "user", "lasts", "used")
    list_select_related = ("user",)
    ordering = ("-pk",)
    actions = None  # each is revoked on its own page
    deleting = {
        "title": gettext_lazy("Revoke"),
        "warning": gettext_lazy("Who uses it is refused from then on."),
        "button": gettext_lazy("Yes, revoke"),
    }

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        """One's own."""
        rows = super().get_queryset(request)
        if getattr(request.user, "is_superuser", False):
            return rows
        return rows.filter(user_id=request.user.pk or 0)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """What is asked for, or what is known."""
        if obj is None:
            return ("name", "days")
        return ("name", "user", "created_at", "expires_at", "used_at")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A token is made and revoked, never changed."""
        return False

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The form. What is made is shown next, so there is one button."""
        one = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().add_view(request, form_url, {**one, **(extra_context or {})})

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        """Make it; `response_add` shows it."""
        assert isinstance(request.user, AbstractBaseUser)
        lasts = timedelta(days=form.cleaned_data["days"])
        row, token = make_token(request.user, name=obj.name, lasts=lasts)
        obj.pk, obj.made_token = row.pk, token  # type: ignore[attr-defined]

    def response_add(
        self, request: HttpRequest, obj: ApiToken, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The token, for the only time: it goes into no session and no log."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "list": self.page("changelist"),
            "title": _("Your token"),
            "name": obj.name,
            "token": obj.made_token,  # type: ignore[attr-defined]
        }
        return TemplateResponse(request, "admin/notifications/token.html", context)

    def delete_model(self, request: HttpRequest, obj: ApiToken) -> None:
        """Revoke it; Django writes the audit line."""
        revoke_token(obj)

    @admin.display(description=gettext_lazy("lasts"))
    def lasts(self, row: ApiToken) -> Any:
        """Until when, and since when."""
        until = _("until it is revoked")
        if row.expires_at is not None:
            over = row.expires_at <= timezone.now()
            when = ago(row.expires_at) if over else soon(row.expires_at)
            until = (_("ended %(time)s") if over else _("ends %(time)s")) % {"time": when}
        return noted(until, _("made %(time)s") % {"time": ago(row.created_at)})

    @admin.display(description=gettext_lazy("last used"))
    def used(self, row: ApiToken) -> Any:
        """When."""
        return _("never used") if row.used_at is None else age(row.used_at)
