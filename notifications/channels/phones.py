"""Phone numbers: written in many ways, kept in one (E.164, ITU-T: "+12025550123")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, ValidationResult

from notifications.channels.base import Channel
from notifications.errors import InvalidAddress

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

FIELD = "phone"  # of the user model, unless the model names another one as PHONE_FIELD

_SHAPE = "Write it in full, like +12025550123."
_WRONG_LENGTH = {
    ValidationResult.TOO_SHORT: "too short",
    ValidationResult.TOO_LONG: "too long",
    ValidationResult.INVALID_LENGTH: "of a wrong length",
    # What can be dialled in its own town only.
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "without its area code",
}


class PhoneChannel(Channel):
    """A channel whose addresses are phones."""

    def address_of(self, user: AbstractBaseUser) -> str:
        """The user's phone: its field `phone`, or the one its model names as PHONE_FIELD."""
        return phone_of(user)

    def clean(self, address: str) -> str:
        """The number in E.164. Raises InvalidAddress."""
        return clean_phone(address)


def phone_of(user: AbstractBaseUser) -> str:
    """The number that a user gave, empty if there is none."""
    return str(getattr(user, getattr(user, "PHONE_FIELD", FIELD), "") or "")


def clean_phone(written: str) -> str:
    """The number in E.164. Raises InvalidAddress.

    Only its length is judged: lists of the numbers that are in use lag behind those who hand
    numbers out (libphonenumber's FAQ, "isPossibleNumber or isValidNumber").
    """
    try:
        number = phonenumbers.parse(written.strip(), None)
    except NumberParseException as error:
        raise InvalidAddress(_hint(written.strip(), error)) from None
    reason = phonenumbers.is_possible_number_with_reason(number)
    if reason != ValidationResult.IS_POSSIBLE:
        wrong = _WRONG_LENGTH.get(reason, "of an unknown country")
        raise InvalidAddress(f"This phone number is {wrong}. {_SHAPE}")
    if number.extension:
        raise InvalidAddress(f"This phone number has an extension. {_SHAPE}")
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def _hint(written: str, error: NumberParseException) -> str:
    if error.error_type == NumberParseException.INVALID_COUNTRY_CODE:
        if not written.startswith("+") and any(each.isdigit() for each in written):
            return f"This phone number does not begin with + and a country code. {_SHAPE}"
        return f"This phone number's country code does not exist. {_SHAPE}"
    return f"This is no phone number. {_SHAPE}"
