"""Six digits that prove an address."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.core import serializers
from django.db.models.functions import Now
from django.test import override_settings

from notifications.models import Notification, Priority, Task
from orders import verification
from orders.models import VerificationRequest
from tests.orders.shop import compose_last, make_customer

pytestmark = pytest.mark.django_db


def code_in_mail() -> str:
    mail = compose_last()
    [in_text] = re.findall(r"^\s+(\d{6})$", mail.text, re.MULTILINE)
    assert f">{in_text}<" in mail.html
    return in_text


def later(*, seconds: float) -> None:
    """Let time pass for all requests."""
    by = timedelta(seconds=seconds)
    for request in VerificationRequest.objects.all():
        request.asked_at -= by
        request.expires_at -= by
        request.save()


def test_the_code_in_the_mail_proves_the_address() -> None:
    user = make_customer()
    verification.request_code(user)
    row = Notification.objects.get()
    assert (row.kind, row.priority) == ("verification_code", Priority.CRITICAL)
    assert row.expires_at - row.due_at == timedelta(minutes=10)
    assert verification.confirm(user, f" {code_in_mail()} ")
    user.refresh_from_db()
    assert user.email_verified_at is not None


def test_a_code_is_good_once() -> None:
    user = make_customer()
    verification.request_code(user)
    code = code_in_mail()
    assert verification.confirm(user, code)
    assert not verification.confirm(user, code)


def test_five_wrong_tries_make_it_worthless() -> None:
    user = make_customer()
    verification.request_code(user)
    code = code_in_mail()
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    for _each in range(verification.TRIES):
        assert not verification.confirm(user, wrong)
    assert not verification.confirm(user, code)


def test_four_wrong_tries_do_not() -> None:
    user = make_customer()
    verification.request_code(user)
    code = code_in_mail()
    for _each in range(verification.TRIES - 1):
        assert not verification.confirm(user, "nonsense")
    assert verification.confirm(user, code)


def test_it_is_too_old_after_ten_minutes() -> None:
    user = make_customer()
    verification.request_code(user)
    code = code_in_mail()
    later(seconds=601)
    assert not verification.confirm(user, code)


def test_a_new_code_replaces_the_old_one() -> None:
    user = make_customer()
    verification.request_code(user)
    old = code_in_mail()
    later(seconds=31)
    verification.request_code(user)
    new = code_in_mail()
    assert old != new
    assert not verification.confirm(user, old)
    assert verification.confirm(user, new)


def test_asking_twice_in_a_moment_sends_one_whatever_the_address() -> None:
    user = make_customer()
    verification.request_code(user)
    for address in (user.email, "victim@example.com"):
        user.email = address
        user.save()
        with pytest.raises(verification.TooSoon):
            verification.request_code(user)
    assert Notification.objects.count() == 1


def test_a_user_has_ten_codes_a_day_whatever_the_addresses_and_what_was_confirmed() -> None:
    user = make_customer()
    for number in range(verification.MOST):
        user.email = f"{number}@example.com"
        user.save()
        verification.request_code(user)
        if number == 3:
            assert verification.confirm(user, VerificationRequest.objects.get().code)
        later(seconds=31)
    with pytest.raises(verification.TooMany):
        verification.request_code(user)
    verification.request_code(make_customer("eve"))
    assert Notification.objects.count() == verification.MOST + 1
    Notification.objects.update(created_at=Now() - timedelta(days=1, seconds=1))
    verification.request_code(user)


def test_a_code_proves_only_the_address_it_was_sent_to() -> None:
    user = make_customer()
    verification.request_code(user)
    code = code_in_mail()
    user.email = "other@example.com"
    user.save()
    assert not verification.confirm(user, code)


def test_codes_of_others_and_other_keys_are_worthless() -> None:
    user, other = make_customer(), make_customer("eve")
    verification.request_code(user)
    code = code_in_mail()
    assert not verification.confirm(other, code)
    with override_settings(SECRET_KEY="another"):
        assert not verification.confirm(user, code)


def test_every_try_at_sending_shows_the_same_code_and_no_row_holds_it() -> None:
    verification.request_code(make_customer())
    code = code_in_mail()
    assert code == code_in_mail()
    for model in (Notification, Task, VerificationRequest):
        for row in json.loads(serializers.serialize("json", model.objects.all())):
            texts = [str(value) for value in row["fields"].values()]
            assert not any(re.search(rf"\b{code}\b", text) for text in texts)
