"""From a row to a mail: addresses, templates, languages, headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.template import TemplateDoesNotExist
from django.test import override_settings
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext_lazy

from notifications import contents
from notifications.channels import templates
from notifications.channels.email import EmailChannel
from notifications.errors import InvalidAddress, InvalidMessage
from notifications.kinds import Kind
from notifications.message import Attachment
from notifications.models import Notification
from notifications.providers import mime
from tests.mail_templates import kind_templates, use_templates

CREATED = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Parcel(Kind):
    name = "tests.parcel"


class Signed(Kind):
    """Says its headers itself."""

    name = "tests.signed"
    more: dict[str, str] = {"X-Shop": "7", "List-Id": "<shop.example.com>"}

    @classmethod
    def sender(cls, row: Notification) -> str:
        return "Jörg <joerg@shop.example>"

    @classmethod
    def reply_to(cls, row: Notification) -> tuple[str, ...]:
        return ("help@shop.example", "Ann <ann@shop.example>")

    @classmethod
    def headers(cls, row: Notification) -> Mapping[str, str]:
        return cls.more


def row(**changes: Any) -> Notification:
    given: dict[str, Any] = {"id": 41, "to": "ann@example.com", "created_at": CREATED}
    return Notification(**(given | changes))


def compose(
    context: Mapping[str, Any], *, kind: type[Kind] = Parcel, language: str = "", **parts: str
) -> Any:
    with use_templates(kind_templates(kind.name, **parts)):
        return EmailChannel().compose(row(kind=kind.name, language=language), kind, context)


# -- addresses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("ann@example.com", "ann@example.com"),
        ("  ann@example.com ", "ann@example.com"),
        ("Ann.Smith+Tag@EXAMPLE.Com", "Ann.Smith+Tag@example.com"),
        ("Ann <ann@Example.com>", "ann@example.com"),
        ('"Smith, Ann" <ann@example.com>', "ann@example.com"),
        ("<ann@example.com>", "ann@example.com"),
        ("o'brien@example.com", "o'brien@example.com"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("ann@STRASSE.example", "ann@strasse.example"),
        ("ann@straße.example", "ann@xn--strae-oqa.example"),
        ("ann@[127.0.0.1]", "ann@[127.0.0.1]"),
    ],
)
def test_an_address_has_one_stored_form(given: str, stored: str) -> None:
    assert EmailChannel().clean(given) == stored
    assert EmailChannel().clean(stored) == stored


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("", "no @"),
        ("ann", "no @"),
        ("ann@", "name@example.com"),
        ("@example.com", "name@example.com"),
        ("ann@example", "name@example.com"),
        ("ann@exa mple.com", "name@example.com"),
        ("a@example.com, b@example.com", "more than one"),
        ("a@example.com;b@example.com", "more than one"),
        ("a@b@example.com", "more than one"),
        ("jörg@example.com", "ASCII"),
        ("ann@example.com\r\nBcc: eve@example.com", "control characters"),
        ("ann\0@example.com", "control characters"),
        ("ann@example.com\n", "control characters"),
        ("ann\u2028@example.com", "control characters"),
        ("Ann@Home <ann@example.com>", "more than one"),
        ('"a b"@example.com', "name@example.com"),
        ("ann@-bad-.example", "name@example.com"),
        ("a" * 330 + "@example.com", "name@example.com"),
    ],
)
def test_what_is_no_address_is_refused_with_a_hint(given: str, hint: str) -> None:
    with pytest.raises(InvalidAddress, match=hint) as caught:
        EmailChannel().clean(given)
    assert "eve" not in str(caught.value)


def test_a_user_s_address_is_in_the_field_the_model_says() -> None:
    user = get_user_model()(email="ann@example.com")
    assert EmailChannel().address_of(user) == "ann@example.com"
    assert EmailChannel().address_of(get_user_model()()) == ""


# -- mail of a kind -------------------------------------------------------------------------


def test_a_name_reads_the_same_in_subject_text_and_html() -> None:
    email = compose(
        {"name": "O'Brien <b>"},
        subject="For {{ name }}\n",
        text="Hello {{ name }}",
        html="<p>Hello {{ name }}</p>",
    )
    assert email.subject == "For O'Brien <b>"
    assert email.text == "Hello O'Brien <b>"
    assert email.html == "<p>Hello O&#x27;Brien &lt;b&gt;</p>"


def test_a_mail_tells_which_row_it_is() -> None:
    email = compose({}, subject="s", text="t")
    assert (email.id, email.to, email.category) == (41, "ann@example.com", "tests.parcel")


def test_a_mail_may_lack_one_of_its_bodies() -> None:
    assert compose({}, subject="s", text="t").html == ""
    assert compose({}, subject="s", html="<p>h</p>").text == ""
    with pytest.raises(TemplateDoesNotExist):
        compose({}, subject="s")
    with pytest.raises(TemplateDoesNotExist):
        compose({}, text="t", html="h")


def test_a_missing_layout_is_not_a_missing_body() -> None:
    with pytest.raises(TemplateDoesNotExist, match="nowhere"):
        compose({}, subject="s", text="t", html='{% extends "nowhere.html" %}')


@override_settings(DEFAULT_FROM_EMAIL="Django <django@example.com>")
def test_the_sender_is_the_kind_s_or_the_setting_s_or_django_s() -> None:
    parts = {"subject": "s", "text": "t"}
    assert compose({}, kind=Signed, **parts).sender == "Jörg <joerg@shop.example>"
    assert compose({}, **parts).sender == "Django <django@example.com>"
    with override_settings(NOTIFICATIONS={"FROM_EMAIL": "Shop <shop@example.com>"}):
        assert compose({}, **parts).sender == "Shop <shop@example.com>"


def test_a_kind_s_headers_go_along() -> None:
    email = compose({}, kind=Signed, subject="s", text="t")
    assert email.reply_to == ("help@shop.example", "Ann <ann@shop.example>")
    assert email.headers == {"X-Shop": "7", "List-Id": "<shop.example.com>"}


def test_a_message_id_is_the_same_at_every_attempt() -> None:
    parts = {"subject": "s", "text": "t"}
    first, again = (compose({}, kind=Signed, **parts).message_id for _ in range(2))
    assert first == again == f"<41.{int(CREATED.timestamp() * 1000):x}@shop.example>"
    other = EmailChannel()
    with use_templates(kind_templates(Parcel.name, **parts)):
        later = row(kind=Parcel.name, created_at=CREATED + timedelta(milliseconds=1))
        assert other.compose(later, Parcel, {}).message_id != first


@pytest.mark.parametrize("evil", ["\r\nBcc: eve@example.com", "\nx", "\r", "\0", "\x0b", "\x85"])
def test_a_line_break_in_the_subject_is_refused(evil: str) -> None:
    with pytest.raises(InvalidMessage, match="subject"):
        compose({"name": f"Eve{evil}!"}, subject="For {{ name }} ", text="t")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Shop": "7\r\nBcc: eve@example.com"},
        {"X-Shop\r\nBcc": "eve@example.com"},
        {"Bcc": "eve@example.com"},
        {"from": "eve@example.com"},
    ],
)
def test_a_kind_s_headers_are_checked(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Signed, "more", headers)
    with pytest.raises(InvalidMessage):
        compose({}, kind=Signed, subject="s", text="t")


def test_plain_values_of_all_sorts_can_be_shown() -> None:
    context = {
        "a": 1,
        "b": Decimal("1.50"),
        "c": date(2026, 3, 1),
        "d": CREATED,
        "e": timedelta(hours=1),
        "f": None,
        "g": [{"h": ("x", True)}],
        "i": uuid4(),
        "j": gettext_lazy("Monday"),
    }
    email = compose(context, subject="s", text="{{ b }} {{ g.0.h.0 }} {{ j }}")
    assert email.text == "1.50 x Monday"


@pytest.mark.parametrize(
    "value",
    [get_user_model()(), object(), Path("/"), print, {1, 2}, b"bytes", [{"x": [lambda: None]}]],
    ids=lambda value: type(value).__name__,
)
def test_nothing_that_a_template_could_call_gets_into_it(value: Any) -> None:
    with pytest.raises(InvalidMessage, match=r"tests\.parcel\.order.* plain values"):
        compose({"order": value}, subject="s", text="t")


def test_a_row_s_language_is_the_mail_s() -> None:
    parts = {
        "subject": "{% load i18n %}{% translate 'Monday' %}",
        "text": "{% load i18n %}{% get_current_language as code %}{{ code }} {{ n }}",
    }
    assert compose({"n": 1.5}, language="de", **parts).subject == "Montag"
    assert compose({"n": 1.5}, language="de", **parts).text == "de 1,5"
    with translation.override("en"):
        assert compose({"n": 1.5}, **parts).subject == "Monday"
        assert compose({"n": 1.5}, language="de", **parts).subject == "Montag"
        assert translation.get_language() == "en"


@override_settings(NOTIFICATIONS={"FRONTEND_URL": "https://shop.example/"})
def test_links_are_absolute() -> None:
    text = (
        "{% load notifications %}{{ frontend_url }}/a "
        "{% absolute_url 'shop' %} {{ '/b?c=1'|absolute }} {{ 'https://x.example/'|absolute }}"
    )
    email = compose({}, subject="s", text=text)
    assert email.text.split() == [
        "https://shop.example/a",
        f"https://shop.example{reverse('shop')}",
        "https://shop.example/b?c=1",
        "https://x.example/",
    ]


# -- templates in memory --------------------------------------------------------------------


def test_templates_are_compiled_once() -> None:
    sources = kind_templates("tests.parcel", subject="s", text="old")
    with use_templates(sources):
        assert templates.render("tests.parcel", {}).text == "old"
        sources["notifications/tests.parcel/email.txt"] = "new"
        assert templates.render("tests.parcel", {}).text == "old"


@override_settings(DEBUG=True)
def test_under_debug_a_changed_template_is_noticed() -> None:
    parts = {"subject": "s", "text": "old", "html": "{% extends 'base.html' %}"}
    sources = kind_templates("tests.parcel", **parts) | {"base.html": "<p>old</p>"}
    with use_templates(sources):
        assert templates.render("tests.parcel", {}).html == "<p>old</p>"
        sources["notifications/tests.parcel/email.txt"] = "new"
        sources["base.html"] = "<p>new</p>"
        rendered = templates.render("tests.parcel", {})
        assert (rendered.text, rendered.html) == ("new", "<p>new</p>")


def test_preloading_compiles_what_can_be_and_names_what_cannot(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sources = kind_templates("tests.parcel", subject="s", text="t", html="{% if %}")
    sources |= kind_templates("tests.signed", subject="s", text="t")
    kinds: Sequence[type[Kind]] = [Parcel, Signed]
    with use_templates(sources):
        EmailChannel().preload(kinds)
        assert set(templates._compiled) == {"tests.signed"}
    assert "tests.parcel" in caplog.text


# -- mail without a kind --------------------------------------------------------------------


def stored(**changes: Any) -> Notification:
    content: dict[str, Any] = {
        "sender": "Shop <shop@example.com>",
        "subject": "Grüße",
        "text": "Hello",
        "html": "<p>Hello</p>",
        "reply_to": ["help@example.com"],
        "headers": {"X-Shop": "7"},
        "to_header": "Ann <ann@example.com>, bob@example.com",
        "cc_header": "carl@example.com",
        "attachments": [
            contents.write_attachment(Attachment("ä.pdf", b"\0\xff", "application/pdf"))
        ],
    }
    return row(content=contents.seal(content | changes))


def test_a_mail_without_a_kind_is_the_one_that_was_stored() -> None:
    email = EmailChannel().compose(stored(), None, {})
    assert (email.subject, email.text, email.html) == ("Grüße", "Hello", "<p>Hello</p>")
    assert email.sender == "Shop <shop@example.com>"
    assert (email.to, email.to_header, email.cc_header) == (
        "ann@example.com", "Ann <ann@example.com>, bob@example.com", "carl@example.com",
    )  # fmt: skip
    assert email.reply_to == ("help@example.com",)
    assert email.headers == {"X-Shop": "7"}
    assert email.attachments == (Attachment("ä.pdf", b"\0\xff", "application/pdf"),)
    assert email.message_id.startswith("<41.")
    mime.build(email)


@override_settings(DEFAULT_FROM_EMAIL="Django <django@example.com>")
def test_without_a_sender_of_its_own_it_has_the_usual_one() -> None:
    assert (
        EmailChannel().compose(stored(sender=""), None, {}).sender == "Django <django@example.com>"
    )


def test_a_message_id_of_its_own_is_kept() -> None:
    email = EmailChannel().compose(stored(headers={"Message-ID": "<1@example.com>"}), None, {})
    assert (email.message_id, email.headers) == ("<1@example.com>", {})


def test_an_erased_content_says_so() -> None:
    with pytest.raises(InvalidMessage, match="erased"):
        EmailChannel().compose(row(content=None), None, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "a\r\nBcc: eve@example.com"},
        {"sender": "shop@example.com\r\nBcc: eve@example.com"},
        {"sender": "nobody"},
        {"to_header": "a@example.com\r\nBcc: eve@example.com"},
        {"to_header": "nobody"},
        {"cc_header": "a@example.com\nBcc: eve@example.com"},
        {"reply_to": ["a@example.com\nBcc: eve@example.com"]},
        {"headers": {"X": "a\nb"}},
        {"headers": {"Message-ID": "<1@example.com>\nBcc: eve@example.com"}},
        {"attachments": [{"name": "a\nb", "content": "", "mimetype": "a/b"}]},
        {"attachments": [{"name": "a", "content": "", "mimetype": "a/b\nc"}]},
    ],
    ids=str,
)
def test_stored_contents_are_checked_as_well(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        EmailChannel().compose(stored(**changes), None, {})
