"""What staff see: the shop in the admin, django-rq's screens, and mail that was caught."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission
from django.db import transaction
from django.test import Client, override_settings
from django.urls import get_resolver, reverse

from config import rq_screens
from notifications import inbox
from notifications.dispatch import notify
from notifications.models import Notification
from notifications.muting import muted
from orders import caught_mail, caught_phones
from orders.caught_phones import CaughtText
from orders.models import Order, User
from orders.notifications import OrderConfirmation
from tests.admin.screens import page_of, text_of, url
from tests.orders.shop import make_customer, make_order, run_handlers

pytestmark = pytest.mark.django_db


def log_in(client: Client, *permissions: str, **fields: bool) -> Client:
    with muted():
        user = User.objects.create_user("staff", **{"is_staff": True, **fields})
    for permission in permissions:
        app, _dot, code = permission.partition(".")
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label=app, codename=code)
        )
    client.force_login(user)
    return client


def test_staff_ship_what_waits_for_it(client: Client) -> None:
    log_in(client, is_superuser=True)
    customer = make_customer()
    paid = make_order(customer, status="paid")
    unpaid = make_order(customer)
    cash = make_order(customer, payment="cash_on_delivery")
    cancelled = make_order(customer, status="cancelled")
    chosen = [order.pk for order in (paid, unpaid, cash, cancelled)]
    answer = client.post(
        reverse("admin:orders_order_changelist"),
        {"action": "ship", "_selected_action": chosen},
        follow=True,
    )
    assert "2 orders are shipped" in answer.content.decode()
    assert set(Order.objects.filter(status="shipped")) == {paid, cash}
    assert run_handlers() == ["order_status_update", "order_status_update"]


def test_who_may_only_look_cannot_ship(client: Client) -> None:
    log_in(client, "orders.view_order")
    order = make_order(status="paid")
    client.post(
        reverse("admin:orders_order_changelist"),
        {"action": "ship", "_selected_action": [order.pk]},
    )
    assert Order.objects.get().status == Order.Status.PAID


def test_every_page_of_the_shops_admin_opens(client: Client) -> None:
    log_in(client, is_superuser=True)
    order = make_order()
    for model, pk in [
        ("order", order.pk),
        ("user", order.customer_id),
        ("product", order.items.get().product_id),
    ]:
        for page in [
            reverse(f"admin:orders_{model}_changelist"),
            reverse(f"admin:orders_{model}_changelist") + "?q=a",
            reverse(f"admin:orders_{model}_add"),
            reverse(f"admin:orders_{model}_change", args=[pk]),
        ]:
            assert client.get(page).status_code == 200, page
    assert "€24.70" in client.get(reverse("admin:orders_order_changelist")).content.decode()


def test_the_order_list_takes_few_queries(
    client: Client, django_assert_max_num_queries: pytest.FixtureRequest
) -> None:
    log_in(client, is_superuser=True)
    customer = make_customer()
    for _each in range(8):
        make_order(customer)
    with django_assert_max_num_queries(9):
        assert client.get(reverse("admin:orders_order_changelist")).status_code == 200


SCREENS = [
    "/admin/rq/",
    "/admin/rq/queues/0/",
    "/admin/rq/queues/0/failed/",
    "/admin/rq/queues/0/empty/",
    "/admin/rq/workers/0/",
    "/admin/rq/stats.json",
]


@pytest.mark.parametrize("page", SCREENS)
def test_rq_screens_open_for_holders_of_their_permission(client: Client, page: str) -> None:
    assert client.get(page).status_code == 302  # to the login
    log_in(client, "notifications.view_notification")
    assert client.get(page).status_code == 403
    assert client.post(page).status_code == 403
    user = User.objects.get(username="staff")
    user.user_permissions.add(Permission.objects.get(codename="admin"))
    assert client.get(page).status_code == 200


def test_the_permission_is_for_staff_only(client: Client) -> None:
    log_in(client, rq_screens.PERMISSION, is_staff=False)
    assert client.get("/admin/rq/").status_code == 302


def test_django_rq_has_no_screen_beside_the_guarded_ones() -> None:
    assert all(hasattr(each.callback, "__wrapped__") for each in rq_screens.urlpatterns)
    others = [
        name
        for name in get_resolver().namespace_dict["admin"][1].reverse_dict
        if isinstance(name, str) and "rq" in name
    ]
    assert others == []


@pytest.fixture
def caught(tmp_path: Path) -> Path:
    caught_mail.keep(
        tmp_path,
        1,
        recipient="ada@example.com",
        content=b"From: Shop <shop@example.com>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
        b"<head></head><h1>Hello</h1><script>alert(1)</script>\r\n",
    )
    caught_mail.keep(
        tmp_path, 2, recipient="eve@example.com", content=b"Subject: second\r\n\r\nplain words\r\n"
    )
    return tmp_path


def test_caught_mail_is_shown_newest_first(client: Client, caught: Path) -> None:
    with override_settings(CAUGHT_MAIL=str(caught)):
        content = client.get("/mail/").content.decode()
        assert content.index("second") < content.index("Grüße")
        assert "ada@example.com" in content
        assert "plain words" in client.get("/mail/2/").content.decode()
        assert client.get("/mail/3/").status_code == 404


def test_caught_mail_cannot_run_scripts_in_the_shop(client: Client, caught: Path) -> None:
    with override_settings(CAUGHT_MAIL=str(caught)):
        content = client.get("/mail/1/").content.decode()
    assert "<script>" not in content
    [sandbox] = re.findall(r'<iframe[^>]* sandbox="([^"]*)"', content)
    assert "allow-scripts" not in sandbox
    assert "allow-same-origin" not in sandbox
    assert "&lt;base target=&quot;_blank&quot;&gt;&lt;/head&gt;&lt;h1&gt;Hello" in content


def test_caught_texts_are_shown_as_bubbles_with_what_became_of_them(
    client: Client, tmp_path: Path
) -> None:
    row = Notification.objects.create(
        kind="welcome", channel="whatsapp", queue="whatsapp", to="+12025550101", state="read"
    )
    for number, text in [(row.pk, "Hello <b>Ada</b>"), (row.pk + 1, "Good bye")]:
        caught_phones.keep(
            tmp_path,
            CaughtText("whatsapp", "+12025550101", text, ["Your order"], number, 1.5 + number),
        )
    with override_settings(CAUGHT_PHONES=str(tmp_path)):
        content = client.get("/phones/").content.decode()
    assert content.index("Hello &lt;b&gt;Ada&lt;/b&gt;") < content.index("Good bye")
    assert content.count("+12025550101") == 1
    assert re.search(r'class="fate read">.*✓✓</span> read', content)
    assert re.search(r'class="fate sent">.*>✓</span> sent', content)


@pytest.mark.parametrize("page", ["/mail/", "/mail/1/", "/phones/"])
def test_without_a_catcher_there_is_no_such_page(client: Client, page: str) -> None:
    assert client.get(page).status_code == 404


def test_an_in_app_message_is_shown_as_its_reader_sees_it(client: Client) -> None:
    order = make_order()
    with transaction.atomic():
        (row,) = notify(
            OrderConfirmation, to=order.customer, context={"order_id": order.pk},
            channels=["in_app"],
        )  # fmt: skip
    log_in(client, is_superuser=True)
    assert "Yes: it was delivered." in text_of(client, page_of(row))
    shown = text_of(client, url("notification", "preview", row.pk))
    assert f"<strong>We have your order {order.number}</strong>" in shown
    assert f'<p class="link">{order.get_absolute_url()}</p>' in shown
    inbox.mark_read(order.customer, "all")
    assert "Yes: it was read." in text_of(client, page_of(row))
