"""The bell and the inbox of the storefront in a real browser, with scripts and without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from notifications import inbox
from notifications.dispatch import notify
from notifications.models import Notification
from orders.models import Order, User
from orders.notifications import OrderConfirmation, OrderStatusUpdate
from tests.acceptance.chromium import MARKS
from tests.acceptance.visits import Opener, visits
from tests.orders.shop import make_customer, make_order

pytestmark = MARKS


@pytest.fixture
def ada() -> User:
    return make_customer()


@pytest.fixture
def open_page(
    browser: Browser, live_server: LiveServer, ada: User, complaints: list[str]
) -> Iterator[Opener]:
    """Open a page as Ada."""
    with visits(browser, live_server.url, ada, complaints) as open_page:
        yield open_page


def confirm(order: Order) -> Notification:
    with transaction.atomic():
        [row] = notify(
            OrderConfirmation, to=order.customer, context={"order_id": order.pk},
            channels=["in_app"],
        )  # fmt: skip
    return row


def update(order: Order) -> None:
    with transaction.atomic():
        notify(
            OrderStatusUpdate, to=order.customer,
            context={"order_id": order.pk, "status": "shipped"}, channels=["in_app"],
        )  # fmt: skip


def bell(page: Page) -> Any:
    return page.get_by_role("link", name="Notifications")


def test_the_bell_hears_of_what_comes_without_a_reload(
    open_page: Opener, ada: User, complaints: list[str]
) -> None:
    order = make_order(ada)
    page = open_page(reverse("shop"))
    expect(bell(page)).to_have_accessible_name("Notifications, none unread")
    expect(page.locator(".ntf-count")).to_be_hidden()
    confirm(order)
    update(order)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # back to this tab
    expect(bell(page)).to_have_accessible_name("Notifications, 2 unread")
    expect(page.locator(".ntf-count")).to_have_text("2")
    expect(page.get_by_role("status")).to_have_text("Notifications, 2 unread")
    inbox.mark_read(ada, "all")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator(".ntf-count")).to_be_hidden()
    assert complaints == []


def test_the_bell_looks_again_by_itself_while_it_is_seen(open_page: Opener, ada: User) -> None:
    page = open_page("about:blank")
    page.clock.install()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(reverse("shop"))
    unread = reverse("notifications_inbox:unread")

    def looks() -> int:
        return sum(url.endswith(unread) for url in asked)

    with page.expect_response(f"**{unread}"):
        page.clock.run_for(100)
    before = looks()
    confirm(make_order(ada))
    with page.expect_response(f"**{unread}"):
        page.clock.run_for(31_000)
    expect(bell(page)).to_have_accessible_name("Notifications, 1 unread")
    assert looks() == before + 1


def test_after_logging_out_elsewhere_nothing_is_asked_any_more(
    open_page: Opener, ada: User
) -> None:
    page = open_page("about:blank")
    page.clock.install()
    page.goto(reverse("shop"))
    unread = reverse("notifications_inbox:unread")
    page.context.clear_cookies()
    with page.expect_response(f"**{unread}") as answer:
        page.clock.run_for(31_000)
    assert answer.value.status == 401
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(300_000)
    assert asked == []


@pytest.mark.parametrize("scripts", [True, False])
def test_a_message_is_read_by_its_button(
    open_page: Opener, ada: User, scripts: bool, complaints: list[str]
) -> None:
    order = make_order(ada)
    confirm(order)
    update(order)
    page = open_page(reverse("shop"), scripts=scripts)
    bell(page).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Notifications")
    titles = page.locator(".ntf-inbox h2")
    expect(titles).to_have_text(
        [f"Your order {order.number} has left us", f"We have your order {order.number}"]
    )
    page.get_by_role("button", name=f"Mark as read: We have your order {order.number}").click()
    expect(page.locator(".ntf-unread")).to_have_count(1)
    expect(bell(page)).to_have_accessible_name("Notifications, 1 unread")
    page.get_by_role("button", name="Mark all as read").click()
    expect(page.locator(".ntf-unread")).to_have_count(0)
    assert inbox.unread_count(ada) == 0
    assert complaints == []


def test_following_a_message_marks_it_read(
    open_page: Opener, ada: User, complaints: list[str]
) -> None:
    order = make_order(ada)
    confirm(order)
    page = open_page(reverse("notifications_inbox:page"))
    page.get_by_role("link", name=f"We have your order {order.number}").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(order.number)
    expect(bell(page)).to_have_accessible_name("Notifications, none unread")
    assert complaints == []


def test_without_scripts_a_message_still_leads_to_its_order(open_page: Opener, ada: User) -> None:
    order = make_order(ada)
    confirm(order)
    page = open_page(reverse("notifications_inbox:page"), scripts=False)
    page.get_by_role("link", name=f"We have your order {order.number}").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(order.number)
    assert inbox.unread_count(ada) == 1  # nobody said that it was read


def test_many_messages_come_page_by_page(open_page: Opener, ada: User) -> None:
    order = make_order(ada)
    for _ in range(inbox.PAGE + 1):
        confirm(order)
    page = open_page(reverse("notifications_inbox:page"), scripts=False)
    expect(page.locator(".ntf-inbox li")).to_have_count(inbox.PAGE)
    page.get_by_role("link", name="Older").click()
    expect(page.locator(".ntf-inbox li")).to_have_count(1)
    page.get_by_role("button", name="Mark as read").first.click()
    assert "before=" in page.url
    page.get_by_role("link", name="Newest").click()
    expect(page.locator(".ntf-inbox li")).to_have_count(inbox.PAGE)
    expect(page.locator(".ntf-unread")).to_have_count(inbox.PAGE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_it_is_whole_and_readable_on_every_screen(
    open_page: Opener, ada: User, width: int, scheme: str
) -> None:
    order = make_order(ada)
    confirm(order)
    update(order)
    page = open_page(reverse("notifications_inbox:page"), width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = bell(page).bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) >= 24  # WCAG 2.2, 2.5.8 Target Size (Minimum)
    contrasts = page.evaluate(_CONTRASTS)
    assert len(contrasts) >= 3
    assert min(contrasts) >= 4.5  # WCAG 2.2, 1.4.3 Contrast (Minimum)


# The contrast of each text of the bell and the messages with the next background behind it.
_CONTRASTS = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map((each) => each / 255).map(
      (each) => (each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll(".ntf-count, .ntf-inbox p, .ntf-inbox time, .ntf-state")]
    .map((element) => {
      const two = [light(getComputedStyle(element).color), light(behind(element))].sort();
      return (two[1] + 0.05) / (two[0] + 0.05);
    });
}"""
