"""Previews: how a message of each channel looks to its recipient."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import RequestFactory
from django.utils import timezone

from notifications.admin import pictures
from notifications.message import Button, Email, Media, Note, Parameter, Push, Sms, WhatsApp
from notifications.models import RegisteredTemplate
from notifications.rest.shapes import describe_message

pytestmark = pytest.mark.django_db

NUMBER = "+12025550123"


def picture(message: Any, query: str = "") -> str:
    answer = pictures.show(RequestFactory().get(f"/?{query}"), message)
    assert answer["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    return answer.content.decode()


def register(*components: dict[str, Any]) -> None:
    RegisteredTemplate.objects.create(
        provider="whatsapp_cloud", name="parcel", language="en", status="APPROVED",
        components=components, synchronised_at=timezone.now(),
    )  # fmt: skip


def whatsapp(**parts: Any) -> WhatsApp:
    return WhatsApp(id=1, to=NUMBER, template="parcel", language="en", **parts)


def test_a_mail_is_its_html_or_its_text() -> None:
    mail = Email(1, "a@example.com", "b@example.com", "s", text="plain", html="<b>bold</b>")
    assert picture(mail) == "<b>bold</b>"
    assert picture(mail, "text") == "plain"


def test_a_whatsapp_message_is_the_approved_words_with_its_values() -> None:
    register(
        {"type": "HEADER", "format": "TEXT", "text": "Order {{1}}"},
        {"type": "BODY", "text": "Hello {{1}},\nyour parcel {{2}} waits. {{3}}"},
        {"type": "FOOTER", "text": "Leaf & Kettle"},
        {"type": "BUTTONS", "buttons": [{"type": "URL", "text": "Your order", "url": "x"}]},
    )
    shown = picture(
        whatsapp(
            header=Parameter("7K2M"),
            body=(Parameter("<Ann>"), Parameter("9")),
            buttons=(Button(0, "url", "7K2M"),),
        )
    )
    assert "<p>Order 7K2M</p>" in shown
    assert "Hello &lt;Ann&gt;,\nyour parcel 9 waits. {{3}}" in shown
    assert "<p>Leaf &amp; Kettle</p>" in shown
    assert '<p class="button">Your order</p>' in shown
    assert 'class="whatsapp"' in shown


def test_a_whatsapp_picture_has_its_place() -> None:
    register({"type": "HEADER", "format": "IMAGE"}, {"type": "BODY", "text": "Look!"})
    shown = picture(whatsapp(header=Media("image", "https://example.com/a.png")))
    assert "[image]" in shown


def test_an_unknown_whatsapp_template_is_shown_by_what_goes_into_it() -> None:
    shown = picture(whatsapp(body=(Parameter("Ann"),), difference="body {{2}} gets no value"))
    assert "not known here" in shown
    assert "<p>1: Ann</p>" in shown
    assert "It differs from the approved template: body {{2}} gets no value" in shown


@pytest.mark.parametrize(("text", "size"), [("hello", "1 segment<"), ("x" * 161, "2 segments<")])
def test_a_text_message_says_what_it_costs(text: str, size: str) -> None:
    shown = picture(Sms(1, NUMBER, text))
    assert f"<p>{text}</p>" in shown
    assert size in shown


PUSH = Push(
    1, "push.example.com#7", "https://push.example.com/secret", "KEY", "AUTH", "Your <order>",
    "is on its way", link="/orders/7/",
)  # fmt: skip


@pytest.mark.parametrize(
    "message", [Note(1, "7", "Your <order>", "is on its way", link="/orders/7/"), PUSH]
)
def test_a_note_has_a_title_a_text_and_where_it_leads(message: Any) -> None:
    shown = picture(message)
    for words in ("<strong>Your &lt;order&gt;</strong>", "<p>is on its way</p>", "/orders/7/"):
        assert words in shown


def test_the_keys_of_a_browser_are_shown_to_nobody() -> None:
    told = describe_message(PUSH)
    assert list(told) == ["id", "to", "title", "text", "link", "type", "urgency"]
    for shown in (repr(PUSH), str(PUSH), picture(PUSH)):
        for secret in (PUSH.endpoint, PUSH.p256dh, PUSH.auth):
            assert secret not in shown
