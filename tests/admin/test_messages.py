"""The kinds of messages: their samples on each channel, in each language; tests to oneself."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.test import override_settings

from notifications.models import Notification, Priority
from tests.admin.screens import boss, list_of, page_of, staff, text_of, url
from tests.rest.callers import Caller
from tests.scripted import SETTINGS, Note

pytestmark = pytest.mark.django_db(transaction=True)

CONFIRMATION = "order_confirmation"


class Broken(Note):
    """A kind whose sample cannot be made."""

    name = "test_broken"

    @classmethod
    def sample(cls) -> Any:
        raise KeyError("bob@example.com")


class Dotted(Note):
    """A kind named as its app would be."""

    name = "shop.dotted"


@pytest.fixture(autouse=True)
def channels(script: Any) -> Any:
    both = {**SETTINGS["CHANNELS"], "email": {}, "sms": {}}
    given = {**SETTINGS, "CHANNELS": both, "FROM_EMAIL": "shop@example.com"}
    names = ("default", "note", "email", "sms")
    queues = {name: {"URL": "redis://127.0.0.1:1/0"} for name in names}
    with override_settings(NOTIFICATIONS=given, RQ_QUEUES=queues):
        yield


def test_the_list_links_to_each_channel_of_each_kind() -> None:
    content = text_of(boss(), list_of("message"))
    for channel in ("email", "sms"):
        assert url("message", "one", CONFIRMATION, channel) in content
    assert url("message", "one", "welcome", "sms") not in content
    assert url("message", "one", Dotted.name, "note") in content
    assert "holds a secret" in content


def test_a_kind_is_shown_by_its_sample_in_each_language() -> None:
    client = boss()
    address = url("message", "one", CONFIRMATION, "email")
    content = text_of(client, address)
    assert "shop@example.com" in content
    assert "<iframe" in content
    picture = url("message", "picture", CONFIRMATION, "email")
    english = client.get(picture, {"language": "en"})
    german = client.get(picture, {"language": "de"}).content.decode()
    assert english.headers["Content-Security-Policy"].startswith("sandbox")
    assert english.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert "Ada" in english.content.decode()
    assert english.content.decode() != german
    assert text_of(client, picture, language="xx") == english.content.decode()
    assert "<article" in text_of(client, url("message", "picture", CONFIRMATION, "sms"))


def test_what_cannot_be_made_says_why_without_addresses() -> None:
    client = boss()
    for page in ("one", "picture"):
        content = text_of(client, url("message", page, "test_broken", "note"))
        assert "KeyError" in content
        assert "bob@example.com" not in content
    assert "<iframe" not in text_of(client, url("message", "one", "test_broken", "note"))


@pytest.mark.parametrize(
    ("kind", "channel"), [("gone", "email"), (CONFIRMATION, "note"), (CONFIRMATION, "push")]
)
def test_what_is_not_there_is_not_found(kind: str, channel: str) -> None:
    client = boss()
    assert client.get(url("message", "one", kind, channel)).status_code == 404
    assert client.get(url("message", "picture", kind, channel)).status_code == 404
    assert client.post(url("message", "test", kind, channel)).status_code == 404


def test_a_test_goes_to_who_asks_for_it_and_to_nobody_else() -> None:
    client = staff("view_notification", "send_test")
    address = url("message", "test", CONFIRMATION, "email")
    assert address in text_of(client, url("message", "one", CONFIRMATION, "email"))
    data = {"language": "de", "to": "eve@example.com"}
    answer = client.post(address, data, follow=True)
    row = Notification.objects.get()
    assert (row.to, row.language, row.kind) == ("staff@example.com", "de", CONFIRMATION)
    assert answer.redirect_chain[-1][0] == page_of(row)
    assert "A test is on its way to you." in answer.content.decode()


def test_a_test_neither_reaches_who_has_opted_out_nor_alarms_anybody() -> None:
    staff("send_test").post(url("message", "test", CONFIRMATION, "email"))
    assert Notification.objects.get().priority == Priority.HIGH


def test_too_many_tests_are_refused_whoever_is_asked_for_them() -> None:
    client = staff("view_notification", "send_test")
    api, address = Caller(client), url("message", "test", "test_note", "note")
    with override_settings(NOTIFICATIONS={**SETTINGS, "REST": {"TEST_RATE": "3/h"}}):
        client.post(address)
        api("post", "test-message/", {"channel": "note"}, status=202)
        client.post(address)
        answer = client.post(address, follow=True)
        api("post", "test-message/", {"channel": "note"}, status=429)
        assert 3500 < int(api.answer.headers["Retry-After"]) <= 3600
    told = re.search(r"Enough tests for now: the next may go out in (\d+) seconds", text(answer))
    assert told is not None
    assert 3500 < int(told[1]) <= 3600
    assert Notification.objects.count() == 3


def test_a_test_that_was_not_sent_does_not_count() -> None:
    client = boss()  # without an address
    with override_settings(NOTIFICATIONS={**SETTINGS, "REST": {"TEST_RATE": "1/h"}}):
        for _twice in range(2):
            answer = client.post(url("message", "test", "test_note", "note"), follow=True)
            assert "has no address" in text(answer)


def text(answer: Any) -> str:
    return html.unescape(answer.content.decode())


def test_who_may_test_but_not_look_is_led_back() -> None:
    answer = staff("send_test").post(url("message", "test", CONFIRMATION, "email"))
    assert answer.headers["Location"].startswith(url("message", "one", CONFIRMATION, "email"))


def test_who_has_no_address_there_is_told_so() -> None:
    answer = boss().post(url("message", "test", CONFIRMATION, "sms"), follow=True)
    assert "has no address for the channel" in answer.content.decode()
    assert not Notification.objects.exists()


def test_who_may_not_send_sees_no_button() -> None:
    content = text_of(staff("view_notification"), url("message", "one", CONFIRMATION, "email"))
    assert "Send a test" not in content
