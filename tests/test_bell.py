"""The inbox over HTTP: a page, JSON for scripts, and a bell; each for its own reader only."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import transaction
from django.template import Context, Template
from django.test import Client, RequestFactory
from django.urls import reverse

from notifications import bell, inbox
from notifications.dispatch import notify
from notifications.models import Notification
from notifications.muting import muted
from orders.models import User
from tests.mail_templates import use_templates
from tests.test_inbox import TEMPLATES, ParcelNote

pytestmark = pytest.mark.django_db

PAGE = reverse("notifications_inbox:page")
MESSAGES = reverse("notifications_inbox:messages")
UNREAD = reverse("notifications_inbox:unread")
READ = reverse("notifications_inbox:read")


@pytest.fixture
def ann() -> User:
    with muted():
        return User.objects.create_user("ann", "ann@example.com")


@pytest.fixture
def client(ann: User) -> Client:
    client = Client()
    client.force_login(ann)
    return client


@pytest.fixture
def notes() -> Any:
    with use_templates(TEMPLATES):
        yield


def tell(user: User, *numbers: str) -> list[Notification]:
    with transaction.atomic():
        return [notify(ParcelNote, to=user, context={"number": each})[0] for each in numbers]


def post(client: Client, body: Any, **more: Any) -> Any:
    return client.post(READ, json.dumps(body), content_type="application/json", **more)


# -- JSON ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("notes")
def test_messages_come_in_pages(ann: User, client: Client) -> None:
    rows = tell(ann, *"12345")
    inbox.mark_read(ann, [rows[-1].pk])
    answer = client.get(MESSAGES, {"limit": 2})
    assert "no-store" in answer["Cache-Control"]
    page = answer.json()
    assert page["unread"] == 4
    assert [each["id"] for each in page["results"]] == [rows[4].pk, rows[3].pk]
    first = page["results"][0]
    assert first.pop("at").startswith("20")
    assert first == {
        "id": rows[4].pk,
        "title": "placed: parcel 5",
        "text": "It's with O'Neill & Sons.\nSee you!",
        "type": "tests.parcel_note",
        "link": "/parcels/5/",
        "read": True,
    }
    seen = page["results"]
    while page["next"] and len(seen) < 10:
        page = client.get(page["next"]).json()
        seen += page["results"]
    assert [each["id"] for each in seen] == [row.pk for row in reversed(rows)]


@pytest.mark.parametrize(
    ("count", "short", "label"),
    [
        (0, "", "Notifications, none unread"),
        (1, "1", "Notifications, 1 unread"),
        (99, "99", "Notifications, 99 unread"),
        (100, "99+", "Notifications, 100 or more unread"),
    ],
)
def test_the_bell_says_how_many(count: int, short: str, label: str) -> None:
    assert (bell.short(count), bell.label(count)) == (short, label)


def test_the_bells_number_is_a_short_answer(ann: User, client: Client) -> None:
    tell(ann, "1", "2")
    assert client.get(UNREAD).json() == {
        "unread": 2, "short": "2", "label": "Notifications, 2 unread"
    }  # fmt: skip


def test_messages_are_marked_read(ann: User, client: Client) -> None:
    rows = tell(ann, "1", "2", "3")
    assert post(client, {"ids": [rows[0].pk, str(rows[1].pk)]}).json() == {"unread": 1}
    assert post(client, {"ids": "all"}).json() == {"unread": 0}


def test_nobody_reaches_the_messages_of_others(ann: User, client: Client) -> None:
    with muted():
        bob = User.objects.create_user("bob", "bob@example.com")
    [theirs] = tell(bob, "1")
    assert client.get(MESSAGES, {"before": theirs.pk}).json()["results"] == []
    assert client.get(MESSAGES).json() == {"unread": 0, "results": [], "next": None}
    post(client, {"ids": [theirs.pk]})
    post(client, {"ids": "all"})
    client.post(READ, {"ids": theirs.pk})
    assert inbox.unread_count(bob) == 1


@pytest.mark.parametrize(
    "body",
    [
        {}, [], {"ids": []}, {"ids": None}, {"ids": "some"}, {"ids": ["x"]}, {"ids": [True]},
        {"ids": [1.5]}, {"ids": [-1]}, {"ids": [10**19]}, {"ids": [1] * 1001}, {"ids": {"a": 1}},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(client: Client, body: Any) -> None:
    answer = post(client, body)
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert "ids must be" in answer.json()["detail"]


def test_broken_json_and_odd_pages_are_refused(client: Client) -> None:
    for body in ("{", "[" * 100_000, r'{"ids": ["\ud800"]}'):
        broken = client.post(READ, body, content_type="application/json")
        assert (broken.status_code, broken.json()["detail"]) == (400, "The body is no JSON.")
    for query in ({"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"before": "²"}):
        assert client.get(MESSAGES, query).status_code == 400
    assert client.get(PAGE, {"before": "x"}).status_code == 200


@pytest.mark.parametrize("address", [MESSAGES, UNREAD])
def test_scripts_of_visitors_are_told_to_log_in(address: str) -> None:
    answer = Client().get(address)
    assert (answer.status_code, answer.json()["detail"]) == (401, "Log in first.")
    assert Client().post(READ, {"ids": "all"}).status_code == 401


def test_methods_are_what_they_should_be(client: Client) -> None:
    assert client.get(READ).status_code == 405
    for address in (PAGE, MESSAGES, UNREAD):
        assert client.post(address).status_code == 405


@pytest.mark.parametrize("with_middleware", [True, False])
def test_a_change_needs_the_csrf_token(ann: User, settings: Any, with_middleware: bool) -> None:
    if not with_middleware:
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "csrf" not in name.lower()]
    tell(ann, "1")
    client = Client(enforce_csrf_checks=True)
    client.force_login(ann)
    assert post(client, {"ids": "all"}).status_code == 403
    assert inbox.unread_count(ann) == 1
    client.get(PAGE)
    token = client.cookies["csrftoken"].value
    assert post(client, {"ids": "all"}, headers={"X-CSRFToken": token}).status_code == 200
    assert inbox.unread_count(ann) == 0


# -- pages --------------------------------------------------------------------------------------


def test_the_page_is_for_who_is_logged_in() -> None:
    answer = Client().get(PAGE)
    assert answer.status_code == 302
    assert answer["Location"].startswith(reverse("login"))


def test_forms_mark_read_and_come_back(ann: User, client: Client) -> None:
    [row] = tell(ann, "1")
    back = f"{PAGE}?before=5"
    answer = client.post(READ, {"ids": row.pk, "next": back})
    assert (answer.status_code, answer["Location"]) == (303, back)
    assert inbox.unread_count(ann) == 0


@pytest.mark.parametrize("back", ["", "https://evil.example/", "//evil.example/"])
def test_forms_do_not_lead_astray(client: Client, back: str) -> None:
    assert client.post(READ, {"ids": "all", "next": back})["Location"] == PAGE


def test_a_form_sent_by_a_script_is_answered_with_json(ann: User, client: Client) -> None:
    [row] = tell(ann, "1")
    answer = client.post(READ, {"ids": row.pk}, headers={"Accept": "application/json"})
    assert answer.json() == {"unread": 0}


def test_the_page_without_a_site_around_it_works(client: Client, settings: Any) -> None:
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": []}]
    content = client.get(PAGE).content.decode()
    assert "<h1>Notifications</h1>" in content
    assert "There are no notifications yet." in content
    assert 'aria-label="Notifications, none unread"' in content


def test_what_a_message_says_is_no_markup(ann: User, client: Client) -> None:
    order_note = {"notifications/tests.parcel_note/in_app.txt": "<b>{{ number }}</b>\n<i>x</i>"}
    tell(ann, "<script>")
    items = []
    with use_templates(order_note):
        items = inbox.inbox(ann)
    assert items[0].title == "<b><script></b>"
    page = Template("{% include 'notifications/inbox_messages.html' %}").render(
        Context({"items": items, "unread": 1, "newest": True})
    )
    assert "&lt;b&gt;&lt;script&gt;&lt;/b&gt;" in page
    assert "&lt;i&gt;x&lt;/i&gt;" in page
    assert "<script>" not in page


# -- the tag ------------------------------------------------------------------------------------

TAG = "{% load notifications %}{% notifications_bell %}"


def test_the_bell_takes_one_query(ann: User, django_assert_num_queries: Any) -> None:
    tell(ann, "1")
    request = RequestFactory().get("/")
    request.user = ann
    with django_assert_num_queries(1):
        shown = Template(TAG).render(Context({"request": request}))
    assert f'href="{PAGE}"' in shown
    assert 'aria-label="Notifications, 1 unread"' in shown
    assert ">1</span>" in shown


def test_visitors_see_no_bell(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert Template(TAG).render(Context({})).strip() == ""
    answer = Client().get(reverse("shop"))
    assert b"ntf-bell" not in answer.content


def test_every_page_of_the_shop_has_the_bell(ann: User, client: Client) -> None:
    tell(ann, "1", "2")
    content = client.get(reverse("account")).content.decode()
    assert 'aria-label="Notifications, 2 unread"' in content
    assert content.count("ntf-bell") == 1
