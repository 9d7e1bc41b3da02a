"""What customers with a phone read on WhatsApp."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.test import Client, override_settings
from django.urls import reverse

from notifications import conf, jobs
from notifications.channels.whatsapp_registry import differences, slots
from notifications.channels.whatsapp_template import listed
from notifications.kinds import all_kinds, get_kind
from notifications.models import Notification, State
from notifications.testing.whatsapp_server import Accepted, WhatsAppServer
from orders import notifications as shop
from orders import verification
from orders.models import Order, User, VerificationRequest
from orders.whatsapp import TEMPLATES
from tests.orders.shop import make_customer, make_order, make_product, run_handlers

pytestmark = pytest.mark.django_db(transaction=True)

PHONE = "+12025550123"
KINDS = [
    kind
    for kind in all_kinds().values()
    if kind.__module__ == shop.__name__ and "whatsapp" in kind.channel_names()
]


@pytest.fixture
def server(settings: object) -> Iterator[WhatsAppServer]:
    with WhatsAppServer(templates=TEMPLATES) as server:
        ours = {
            **getattr(settings, "NOTIFICATIONS", {}),
            "RECIPIENTS": "*",
            "CHANNELS": {"email": {}, "whatsapp": {"RATE": ""}},
            "PROVIDERS": {
                "whatsapp_cloud": {
                    "BACKEND": "notifications.providers.whatsapp_cloud.WhatsAppCloud",
                    "OPTIONS": server.options,
                }
            },
        }
        with override_settings(
            NOTIFICATIONS=ours,
            RQ_QUEUES={
                name: {"URL": "redis://127.0.0.1:1/0"}
                for name in ("email", "whatsapp", "default", "documents", "maintenance")
            },
        ):
            yield server


def read_last(server: WhatsAppServer) -> Accepted:
    """Run what waits; the last message that reached the phone."""
    run_handlers()
    jobs.deliver_whatsapp()
    waiting = Notification.objects.filter(channel="whatsapp").exclude(state=State.SENT)
    assert not waiting, [row.reason for row in waiting]
    return server.accepted[-1]


def place(payment: str, **fields: object) -> Order:
    order = Order.objects.create(customer=make_customer(phone=PHONE, **fields), payment=payment)
    order.items.create(product=make_product(), quantity=2)
    return order


def test_these_kinds_go_to_phones() -> None:
    assert {kind.name for kind in KINDS} == {
        "order_confirmation",
        "order_status_update",
        "payment_receipt",
        "verification_code",
    }


def test_what_the_kinds_fill_is_what_the_templates_have() -> None:
    registered = {
        (each.name, each.language): slots(each.describe(1)["components"]) for each in TEMPLATES
    }
    declared = {
        (template.name, language): template.slots()
        for kind in KINDS
        for template in listed(kind.whatsapp)
        for language in template.languages
    }
    assert declared.keys() == registered.keys()
    for name, ours in declared.items():
        assert differences(ours, registered[name]) == []


@pytest.mark.parametrize(
    ("payment", "words"),
    [
        ("cash_on_delivery", "You pay €20.80 in cash when it arrives."),
        ("prepaid", "of €20.80. We pack it as soon as your payment is here."),
    ],
)
def test_cash_and_prepaid_customers_read_different_words(
    server: WhatsAppServer, payment: str, words: str
) -> None:
    order = place(payment)
    message = read_last(server)
    assert message.text.startswith(f"Hello Ada, thank you for your order {order.number}")
    assert words in message.text
    assert message.buttons == ("Your order",)
    assert f'"text": "{order.number}"' in str(message.payload["template"]).replace("'", '"')


def test_the_door_is_announced_to_those_who_pay_there(server: WhatsAppServer) -> None:
    for number, (payment, words) in enumerate(
        [("cash_on_delivery", "Please have €24.70 ready in cash."), ("prepaid", "out for delivery")]
    ):
        order = make_order(make_customer(f"ada{number}", phone=PHONE), payment=payment)
        order.status = Order.Status.OUT_FOR_DELIVERY
        order.save()
        assert words in read_last(server).text


def test_germans_read_german_words_and_sums(server: WhatsAppServer) -> None:
    order = make_order(make_customer(phone=PHONE, language="de"))
    order.status = Order.Status.PAID
    order.save()
    message = read_last(server)
    assert (message.template, message.language) == ("payment_receipt", "de")
    assert message.text == (
        f"Quittung für {order.number}\nGuten Tag Ada, wir haben 24,70 € für Ihre Bestellung "
        f"{order.number} erhalten. Danke!\nLeaf & Kettle"
    )


def test_each_gets_what_they_can_be_reached_by(server: WhatsAppServer) -> None:
    for name, fields in {
        "both": {"phone": PHONE},
        "mail": {},
        "phone": {"phone": PHONE, "email": ""},
        "nothing": {"email": ""},
        "odd": {"phone": "12345"},
    }.items():
        order = Order.objects.create(customer=make_customer(name, **fields))
        run_handlers()
        rows = Notification.objects.filter(about_id=str(order.pk))
        expected = {
            "both": {"email", "whatsapp"},
            "phone": {"whatsapp"},
            "nothing": set(),
        }.get(name, {"email"})
        assert set(rows.values_list("channel", flat=True)) == expected, name


def test_without_whatsapp_there_is_mail_alone() -> None:
    place("prepaid")
    assert run_handlers() == ["order_confirmation"]


def test_a_code_on_whatsapp_proves_the_phone_and_not_the_address(server: WhatsAppServer) -> None:
    user = make_customer(phone=PHONE)
    verification.request_code(user, channel="whatsapp")
    assert list(Notification.objects.values_list("channel", flat=True)) == ["whatsapp"]
    message = read_last(server)
    [code] = re.findall(r"^\*(\d{6})\*", message.text)
    row = Notification.objects.get()
    assert row.expires_at - row.wanted_at == timedelta(minutes=10)
    assert code not in str(list(Notification.objects.values())) + str(
        list(VerificationRequest.objects.values())
    )
    assert verification.confirm(user, code)
    user.refresh_from_db()
    assert user.phone_verified_at is not None
    assert user.email_verified_at is None


def test_a_code_for_another_phone_proves_nothing(server: WhatsAppServer) -> None:
    user = make_customer(phone=PHONE)
    verification.request_code(user, channel="whatsapp")
    code = VerificationRequest.objects.get().code
    user.phone = "+12025550124"
    user.save()
    assert not verification.confirm(user, code)


def test_the_account_page_confirms_the_phone(server: WhatsAppServer, client: Client) -> None:
    user = make_customer(phone=PHONE)
    client.force_login(user)
    account = reverse("account")
    assert "Confirm your phone" in client.get(account).content.decode()
    client.post(reverse("request_code"), {"channel": "whatsapp"})
    [code] = re.findall(r"\d{6}", read_last(server).text)
    client.post(reverse("confirm_code"), {"code": code})
    assert "Confirm your phone" not in client.get(account).content.decode()
    assert User.objects.get().phone_verified_at is not None
    data = {"first_name": "Ada", "last_name": "", "phone": "+12025550124", "language": ""}
    client.post(account, data)
    assert User.objects.get().phone_verified_at is None, "a new phone is not proven"


def test_a_code_goes_nowhere_else(server: WhatsAppServer, client: Client) -> None:
    client.force_login(make_customer())
    assert "Confirm your phone" not in client.get(reverse("account")).content.decode()
    assert client.post(reverse("request_code"), {"channel": "pigeon"}).status_code == 400
    client.post(reverse("request_code"), {"channel": "whatsapp"})  # there is no phone
    assert not Notification.objects.exists()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("language", ["en", "de", "fr", ""])
def test_samples_can_be_shown(kind: type, language: str, server: WhatsAppServer) -> None:
    row = Notification(pk=1, kind=kind.name, channel="whatsapp", to=PHONE, language=language)
    known = get_kind(kind.name)
    message = conf.channel("whatsapp").channel.compose(row, known, known.sample())
    assert message.language == (language if language in ("en", "de") else "en")
    assert str(message).splitlines()[0] == f"{message.template} ({message.language})"
