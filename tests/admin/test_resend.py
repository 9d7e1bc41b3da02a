"""Sending again: the question, the new row, and the way between the two."""

from __future__ import annotations

import re

import pytest
from django.db.models.functions import Now

from notifications.models import Notification, State
from tests.admin.screens import BOB, ask, boss, page_of, staff, text_of, url

pytestmark = pytest.mark.django_db(transaction=True)


def sent() -> Notification:
    row = ask()
    Notification.objects.update(state=State.SENT)
    row.refresh_from_db()
    return row


def test_it_asks_and_warns_then_sends_once_however_often_it_is_clicked() -> None:
    row, client = sent(), boss()
    address = url("notification", "resend", row.pk)
    assert f'href="{address}"' in text_of(client, page_of(row))
    question = text_of(client, address)
    assert f"{BOB} gets this message a second time" in question
    [key] = re.findall(r'name="key" value="(\w+)"', question)
    first = client.post(address, {"key": key})
    second = client.post(address, {"key": key})
    again = Notification.objects.get(resend_of=row)
    assert first.headers["Location"] == second.headers["Location"] == page_of(again)
    assert f'Sent again as</dt><dd><a href="{page_of(again)}">' in text_of(client, page_of(row))
    assert f'Sent again for</dt><dd><a href="{page_of(row)}">' in text_of(client, page_of(again))
    assert f"Sent again as #{again.pk}. – boss" in text_of(client, page_of(row))


def test_the_question_masks_the_recipient() -> None:
    content = text_of(
        staff("view_notification", "retry_notification"), url("notification", "resend", sent().pk)
    )
    assert BOB not in content
    assert "b…@e….com gets this message" in content


def test_what_waits_offers_no_second_sending_and_says_why() -> None:
    row, client = ask(), boss()
    address = url("notification", "resend", row.pk)
    assert address not in text_of(client, page_of(row))
    content = client.post(address, follow=True).content.decode()
    assert "only what went out can be sent again" in content
    assert client.get(url("notification", "resend", 987654)).status_code == 404


def test_what_was_erased_is_not_offered_to_be_sent() -> None:
    row, client = sent(), boss()
    for state, verb in ((State.SENT, "resend"), (State.DEAD, "retry")):
        Notification.objects.update(state=state, erased_at=None)
        assert url("notification", verb, row.pk) in text_of(client, page_of(row))
        Notification.objects.update(erased_at=Now())
        assert url("notification", verb, row.pk) not in text_of(client, page_of(row))


def test_a_mail_whose_content_is_gone_is_not_offered_to_be_sent() -> None:
    row, client = sent(), boss()
    for content, offered in ((b"sealed", True), (None, False)):
        Notification.objects.update(kind="", content=content)
        assert (url("notification", "resend", row.pk) in text_of(client, page_of(row))) == offered
