"""The storefront's forms."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import (
    AuthenticationForm,
    BaseUserCreationForm,
    PasswordResetForm,
)
from django.core.exceptions import ValidationError
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from notifications.events import publish
from orders.models import Language, Order, User


class LogInForm(AuthenticationForm):
    """Customers are known by their address, staff by a name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = _("Email or user name")


class SignUpForm(BaseUserCreationForm):
    """A new customer; the address is the user name."""

    first_name = forms.CharField(label=_("First name"), max_length=150)
    email = forms.EmailField(
        label=_("Email"), max_length=150, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )

    class Meta:
        model = User
        fields = ("first_name", "email", "phone", "language")
        help_texts = {"language": ""}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _name_languages(self)
        self.initial.setdefault("language", (get_language() or "en")[:2])

    def clean_email(self) -> str:
        """The address, which nobody else may have."""
        email: str = self.cleaned_data["email"].lower()
        if User.objects.filter(username=email).exists():
            raise ValidationError(_("There is an account with this address; log in instead."))
        return email

    def save(self, commit: bool = True) -> User:
        """The new user."""
        user: User = super().save(commit=False)
        user.username = user.email
        if commit:
            user.save()
        return user


class AccountForm(forms.ModelForm):
    """What customers say about themselves."""

    class Meta:
        model = User
        fields = ("first_name", "last_name", "phone", "language")
        help_texts = {"language": ""}

    def save(self, commit: bool = True) -> User:
        """A new phone is not proven yet."""
        if "phone" in self.changed_data:
            self.instance.phone_verified_at = None
        user: User = super().save(commit)
        return user

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _name_languages(self)


def _name_languages(form: forms.BaseForm) -> None:
    """Offer the languages, and not to choose none."""
    field = form.fields["language"]
    assert isinstance(field, forms.ChoiceField)
    field.choices = Language.choices


class CheckoutForm(forms.Form):
    """Where to, and how it is paid."""

    address = forms.CharField(
        label=_("Delivery address"),
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 4, "autocomplete": "street-address"}),
    )
    payment = forms.ChoiceField(
        label=_("Payment"),
        choices=Order.Payment.choices,
        widget=forms.RadioSelect,
        initial=Order.Payment.PREPAID,
    )


class CodeForm(forms.Form):
    """Six digits from a mail."""

    code = forms.RegexField(
        r"^\s*[0-9]{6}\s*$",
        label=_("Code"),
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "one-time-code"}),
    )


class QueuedPasswordResetForm(PasswordResetForm):
    """Django's own form, which leaves the mail to a worker.

    The link is made when the mail is sent. The one that Django has put into the context already
    is thrown away here, so that it is stored nowhere.
    """

    def send_mail(
        self,
        subject_template_name: str,
        email_template_name: str,
        context: dict[str, Any],
        from_email: str | None,
        to_email: str,
        html_email_template_name: str | None = None,
    ) -> None:
        """Publish the wish of one user."""
        publish("password_reset.requested", user_id=context["user"].pk)
