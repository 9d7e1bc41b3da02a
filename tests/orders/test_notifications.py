"""What customers are told: the kinds and their templates."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.test import Client, override_settings
from django.utils import translation

from notifications import conf, inbox
from notifications.channels.sms import SmsChannel, count_segments
from notifications.kinds import Kind, all_kinds
from notifications.message import Email, Note
from notifications.models import Notification
from orders import notifications as shop
from orders.models import Order
from orders.templatetags.shop import money
from tests.orders.shop import (
    compose,
    compose_last,
    make_customer,
    make_order,
    make_product,
    run_handlers,
)

pytestmark = pytest.mark.django_db

KINDS = [kind for kind in all_kinds().values() if kind.__module__ == shop.__name__]
LANGUAGES = [code for code, _name in settings.LANGUAGES]


def compose_sample(kind: type[Kind], language: str) -> Email:
    row = Notification(pk=1, kind=kind.name, to="ada@example.com", language=language)
    row.created_at = shop._SAMPLE_ORDER["placed_at"]
    mail = conf.channel("email").channel.compose(row, kind, kind.sample())
    assert isinstance(mail, Email)
    return mail


def tell(order: Order, status: str) -> Email:
    """The mail that an order's new status makes."""
    order.status = status
    order.save()
    run_handlers()
    return compose_last()


def test_the_kinds_are_these() -> None:
    assert {(kind.name, kind.priority.label) for kind in KINDS} == {
        ("order_confirmation", "high"),
        ("order_status_update", "normal"),
        ("password_reset", "critical"),
        ("payment_receipt", "normal"),
        ("refund_confirmation", "normal"),
        ("verification_code", "critical"),
        ("welcome", "low"),
    }
    assert shop.VerificationCode.expires_after == timedelta(minutes=10)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_composes_in_every_language(kind: type[Kind], language: str) -> None:
    mail = compose_sample(kind, language)
    words = f"{mail.subject}\n{mail.text}\n{mail.html}"
    assert mail.subject == mail.subject.strip() != ""
    assert not re.search(r"\{[{%#]|[%#}]\}|None|&amp;amp;", words)
    assert "&" not in mail.text.replace("Leaf & Kettle", "")
    assert "Leaf &amp; Kettle" in mail.html
    assert f'<html lang="{language}"' in mail.html
    assert ("Guten Tag Ada" if language == "de" else "Hello Ada") in mail.text
    assert mail.reply_to == (settings.CONTACT_EMAIL,)
    assert not re.search(r"\n\n\n\n", mail.text)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_nothing_is_left_in_english(kind: type[Kind]) -> None:
    english, german = (compose_sample(kind, language) for language in ("en", "de"))
    assert english.subject != german.subject
    same = set(english.text.splitlines()) & set(german.text.splitlines())
    lines = {line for line in same if len(line) > 3 and "http" not in line}
    assert lines <= {
        "Leaf & Kettle",
        "Ada Example",
        "1 Sample Street",
        "10115 Berlin",
        "    123456",
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_link_is_absolute_and_leads_somewhere(kind: type[Kind], client: Client) -> None:
    with override_settings(FRONTEND_URL="https://tea.example.com"):
        mail = compose_sample(kind, "en")
    in_html = re.findall(r'href="([^"]+)"', mail.html)
    in_text = re.findall(r"https?://\S+", mail.text)
    assert in_text
    for link in [*in_html, *in_text]:
        if link.startswith("mailto:"):
            assert link == f"mailto:{settings.CONTACT_EMAIL}"
            continue
        assert link.startswith("https://tea.example.com/")
        answer = client.get(urlsplit(link).path)
        assert answer.status_code in (200, 302)  # 302: to the login
    assert not re.search(r'(src|background)="', mail.html)  # nothing to load


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_html_stands_without_its_style_sheet(kind: type[Kind]) -> None:
    """Some mail programs drop <style>: what matters must stand at the elements."""
    html = compose_sample(kind, "en").html
    without = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
    [sheet] = re.findall(r'<td[^>]*class="sheet"[^>]*>', without)
    assert "background-color: #ffffff" in sheet
    [heading] = re.findall(r"<h1[^>]*>", without)
    assert "font-size: 26px" in heading
    assert "@media" in html  # and narrow and dark screens are cared for where it is kept


def test_cash_and_prepaid_customers_read_different_words() -> None:
    customer = make_customer()
    tea = make_product()
    mails = {}
    for payment in Order.Payment.values:
        order = Order.objects.create(customer=customer, payment=payment)
        order.items.create(product=tea, quantity=2)
        run_handlers()
        mails[payment] = compose_last()
    assert "in cash when it arrives" in mails["cash_on_delivery"].text
    assert "in cash" not in mails["prepaid"].text
    assert "as soon as your payment of €20.80 is here" in mails["prepaid"].text
    assert "See and pay your order" in mails["prepaid"].html
    assert "pay your order" not in mails["cash_on_delivery"].html


@pytest.mark.parametrize(
    ("status", "payment", "words"),
    [
        ("shipped", "cash_on_delivery", "Please have €24.70 ready for the courier"),
        ("shipped", "prepaid", "Tracking code: LK-1"),
        ("out_for_delivery", "cash_on_delivery", "rings today. Please have €24.70 ready"),
        ("out_for_delivery", "prepaid", "rings today."),
        ("delivered", "cash_on_delivery", "€24.70 was paid to the courier"),
        ("delivered", "prepaid", "Your parcel was handed over. Enjoy it!"),
        ("cancelled", "cash_on_delivery", "There is nothing to pay"),
        ("cancelled", "prepaid", "goes back to you"),
        ("placed", "prepaid", "Your order is now: placed"),
        ("paid", "cash_on_delivery", "We have received €24.70 in cash"),
        ("paid", "prepaid", "your payment of €24.70"),
        ("refunded", "cash_on_delivery", "bank account"),
        ("refunded", "prepaid", "back the way you paid"),
    ],
)
def test_each_status_has_words_for_each_payment(status: str, payment: str, words: str) -> None:
    before = "placed" if status == "paid" else "paid"
    order = make_order(payment=payment, tracking_code="LK-1", status=before)
    mail = tell(order, status)
    assert words in mail.text
    assert order.number in mail.subject
    if status in ("out_for_delivery", "delivered") and payment == "prepaid":
        assert "ready" not in mail.text
        assert "courier." not in mail.text


def test_the_status_is_that_of_the_event_however_late_the_mail() -> None:
    order = make_order()
    order.status = Order.Status.SHIPPED
    order.save()
    run_handlers()
    Order.objects.update(status=Order.Status.DELIVERED)
    assert "has left us" in compose_last().subject


def test_a_confirmation_sent_after_the_payment_does_not_ask_for_it() -> None:
    order = Order.objects.create(customer=make_customer())
    run_handlers()
    Order.objects.filter(pk=order.pk).update(status=Order.Status.PAID)
    mail = compose_last()
    assert "has arrived" in mail.text
    assert "as soon as" not in mail.text


def test_names_come_out_exact_in_text_and_html() -> None:
    order = make_order(make_customer("Tom & <b>O'Brien</b>", email="tom@example.com"))
    order.customer.first_name = "Tom & <b>O'Brien</b>"
    order.customer.save()
    order.items.update(name="{{ settings.SECRET_KEY }} <script>")
    mail = tell(order, "shipped")
    assert "Hello Tom & <b>O'Brien</b>," in mail.text
    assert "Tom &amp; &lt;b&gt;O&#x27;Brien&lt;/b&gt;" in mail.html
    assert "{{ settings.SECRET_KEY }} &lt;script&gt;" in mail.html


def test_a_whole_claim_is_loaded_with_two_queries(
    django_assert_num_queries: pytest.FixtureRequest,
) -> None:
    customer, tea = make_customer(), make_product()
    for _each in range(5):
        order = Order.objects.create(customer=customer)
        order.items.create(product=tea, quantity=2)
    run_handlers()
    batch = list(Notification.objects.all())
    with django_assert_num_queries(2):
        contexts = list(shop.OrderConfirmation.prepare(batch))
    assert [context["order_id"] for context in contexts] == [
        row.context["order_id"] for row in batch
    ]
    assert {context["order"]["total"] for context in contexts} == {Decimal("20.80")}


def test_an_order_that_is_gone_fails_alone() -> None:
    order = Order.objects.create(customer=make_customer())
    run_handlers()
    Order.objects.all().delete()
    with pytest.raises(KeyError, match=str(order.pk)):
        compose(Notification.objects.get(channel="email"))


def test_the_customers_language_is_taken() -> None:
    order = make_order(make_customer(language="de"))
    mail = tell(order, "delivered")
    assert mail.subject == f"Ihre Bestellung {order.number} ist angekommen"
    assert "20,80\u00a0€" in mail.text


@pytest.mark.parametrize(
    ("amount", "currency", "english", "german"),
    [
        ("12.5", "EUR", "€12.50", "12,50\u00a0€"),
        ("0", "GBP", "£0.00", "0,00\u00a0£"),
        ("1234.56", "USD", "$1,234.56", "1.234,56\u00a0$"),
        ("10", "CHF", "CHF\u00a010.00", "10,00\u00a0CHF"),
    ],
)
def test_money_is_written_as_the_language_does(
    amount: str, currency: str, english: str, german: str
) -> None:
    with translation.override("en"):
        assert money(Decimal(amount), currency) == english
    with translation.override("de"):
        assert money(Decimal(amount), currency) == german


def test_messages_go_to_the_user_and_are_about_the_order() -> None:
    order = make_order()
    tell(order, "shipped")
    row = Notification.objects.get(channel="email")
    assert row.user_id == order.customer_id
    assert row.context == {"order_id": order.pk, "status": "shipped"}


NOTES = [kind for kind in KINDS if "in_app" in kind.channel_names()]


def compose_note(kind: type[Kind], language: str) -> Note:
    row = Notification(pk=1, kind=kind.name, channel="in_app", to="7", language=language)
    note = conf.channel("in_app").channel.compose(row, kind, kind.sample())
    assert isinstance(note, Note)
    return note


def test_what_orders_say_is_in_the_app_too() -> None:
    assert {kind.name for kind in NOTES} == {
        "order_confirmation", "order_status_update", "payment_receipt", "refund_confirmation"
    }  # fmt: skip


@pytest.mark.parametrize("kind", NOTES, ids=lambda kind: kind.name)
def test_notes_are_short_and_in_the_readers_language(kind: type[Kind]) -> None:
    english, german = (compose_note(kind, language) for language in ("en", "de"))
    assert english.title == compose_sample(kind, "en").subject
    assert german.title == compose_sample(kind, "de").subject
    assert english.text != german.text
    assert english.link == german.link == "/orders/7K2M-Q9XA/"
    for note in (english, german):
        assert note.text
        assert "\n" not in note.text
        assert not re.search(r"\{[{%#]|[%#}]\}|None|&", f"{note.title}{note.text}")


def test_a_customer_finds_what_happened_to_an_order_in_the_inbox() -> None:
    order = make_order()
    tell(order, "shipped")
    tell(order, "delivered")
    newest, older = inbox.inbox(order.customer)
    assert newest.title == f"Your order {order.number} was delivered"
    assert older.title == f"Your order {order.number} has left us"
    assert newest.link == order.get_absolute_url()
    assert newest.type == "order_status_update"


TEXTED = [kind for kind in KINDS if "sms" in kind.channel_names()]


@pytest.mark.parametrize("kind", TEXTED, ids=lambda kind: kind.name)
@pytest.mark.parametrize("language", LANGUAGES)
def test_text_messages_name_the_shop_and_the_order_in_at_most_two_segments(
    kind: type[Kind], language: str
) -> None:
    row = Notification(pk=1, kind=kind.name, channel="sms", to="+12025550123", language=language)
    message = SmsChannel().compose(row, kind, kind.sample())
    who, *_, link = re.split(r": |\n", message.text)
    assert who == settings.FROM_NAME
    assert compose_sample(kind, language).subject in message.text
    assert link.endswith("/orders/7K2M-Q9XA/")
    assert count_segments(message.text) <= 2
    assert not re.search(r"\{[{%#]|[%#}]\}|None|&\w+;|\n\n", message.text)
