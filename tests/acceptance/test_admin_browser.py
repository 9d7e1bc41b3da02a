"""The admin in a real browser: readable, whole on a telephone, and of use without scripts."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import transaction
from django.urls import reverse
from playwright.sync_api import Browser, expect
from pytest_django.live_server_helper import LiveServer

from notifications import jobs
from notifications.dispatch import notify, send_email
from notifications.models import DeadLetter, Notification, State
from notifications.muting import muted
from notifications.testing.smtp_server import Rule, SmtpServer
from orders.checkout import place_order
from orders.models import Order, User
from orders.notifications import OrderConfirmation
from tests.acceptance.chromium import MARKS
from tests.acceptance.visits import Opener, visits
from tests.admin.screens import list_of, page_of, url
from tests.orders.shop import make_order, make_product

pytestmark = MARKS

GREYLISTED = Rule("RCPT", "451 4.7.1 greylisted, come back later")
REFUSED = Rule("RCPT", "550 5.1.1 no such user here")


@pytest.fixture
def open_page(browser: Browser, live_server: LiveServer, complaints: list[str]) -> Iterator[Opener]:
    """Open a page as the boss."""
    with muted():
        boss = User.objects.create_superuser("boss")
    with visits(browser, live_server.url, boss, complaints) as open_page:
        yield open_page


@pytest.fixture
def mail(settings: LazySettings) -> Iterator[SmtpServer]:
    with SmtpServer() as server:
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.host, server.port
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "RECIPIENTS": "*"}
        yield server


def confirm(order: Order) -> Notification:
    with transaction.atomic():
        (row,) = notify(
            OrderConfirmation, to=order.customer, context={"order_id": order.pk}, about=order,
            channels=["email"],
        )  # fmt: skip
    return row


def kill(mail: SmtpServer, order: Order) -> DeadLetter:
    mail.rules[:] = [REFUSED]
    row = confirm(order)
    jobs.serve("email")
    mail.rules.clear()
    return DeadLetter.objects.get(notification=row)


def test_an_order_number_leads_to_the_answer_without_scripts(
    open_page: Opener, mail: SmtpServer
) -> None:
    make_order()
    dead = kill(mail, Order.objects.get())
    order = Order.objects.get()
    page = open_page(list_of("notification"), scripts=False)
    page.fill("#searchbar", order.number)
    page.press("#searchbar", "Enter")
    row = page.locator("#result_list tbody tr")
    assert row.count() == 1
    assert row.locator(".ntf-chip").inner_text() == "dead"
    assert row.get_by_role("link", name=f"order {order.number}").count() == 1
    row.get_by_role("link", name="Order confirmation").click()
    assert "It gave up and waits for a person" in page.inner_text(".ntf-answer")
    assert "550 5.1.1 no such user" in page.inner_text(".ntf-timeline li:nth-child(2)")
    frame = page.frame_locator(".ntf-preview")
    assert order.number in frame.locator("body").inner_text()
    page.get_by_role("link", name="Dead letter", exact=True).click()
    assert page.url.endswith(page_of(dead))


def test_after_mending_retry_delivers_exactly_one(open_page: Opener, mail: SmtpServer) -> None:
    dead = kill(mail, make_order())
    page = open_page(page_of(dead), scripts=False)
    page.get_by_role("button", name="Retry").click()
    assert "It will be tried again now." in page.inner_text(".messagelist")
    assert "0 dead letters" in page.inner_text("#changelist")
    jobs.serve("email")
    jobs.serve("email")
    assert len(mail.wait_for(1)) == 1
    page.goto(page_of(dead.work))
    assert page.inner_text(".ntf-card .ntf-chip") == "sent"
    told = page.locator(".ntf-timeline strong").all_inner_texts()
    assert told == [
        "Attempt 1: accepted by smtp",
        "Retried. – boss",
        "Attempt 1: refused for good by smtp",
        "Asked for",
    ]


def test_delete_asks_then_removes_and_never_sends(open_page: Opener, mail: SmtpServer) -> None:
    dead = kill(mail, make_order())
    page = open_page(page_of(dead), scripts=False)
    page.get_by_role("link", name="Delete…").click()
    assert DeadLetter.objects.exists()
    page.get_by_role("button", name="Yes").click()
    assert "0 dead letters" in page.inner_text("#changelist")
    jobs.serve("email")
    assert mail.messages == []
    assert Notification.objects.get().state == State.DEAD


def test_a_queue_is_paused_and_goes_on(open_page: Opener, mail: SmtpServer) -> None:
    page = open_page(list_of("hold"), scripts=False)
    page.select_option("#id_queue", "email")
    page.fill("#id_minutes", "30")
    page.fill("#id_reason", "the template is wrong")
    page.get_by_role("button", name="Pause this queue").click()
    assert "The queue email is paused." in page.inner_text(".messagelist")
    row = confirm(make_order())
    jobs.serve("email")
    page.goto(page_of(row))
    assert page.inner_text(".ntf-card .ntf-chip") == "held"
    assert "the template is wrong" in page.inner_text(".ntf-card")
    page.goto(list_of("hold"))
    page.check(".action-select")
    page.select_option("select[name=action]", label="Lift")
    page.get_by_role("button", name="Go").click()
    assert page.locator(".ntf-chip").all_inner_texts() == ["lifted"]
    jobs.serve("email")
    assert len(mail.wait_for(1)) == 1


def test_from_the_order_that_failed_to_its_delivery(open_page: Opener, mail: SmtpServer) -> None:
    with muted():
        ann = User.objects.create_user("ann", "ann@example.com", first_name="Ann")
    mail.rules[:] = [REFUSED]
    with transaction.atomic():
        order = place_order(
            ann, basket={make_product(): 1}, payment=Order.Payment.PREPAID, address="Here"
        )
    jobs.serve("default")
    jobs.serve("email")
    page = open_page(list_of("notification"), scripts=False)
    page.fill("#searchbar", order.number)
    page.press("#searchbar", "Enter")
    failed = page.locator("#result_list tbody tr", has_text="email")
    assert failed.locator(".ntf-chip").inner_text() == "dead"
    failed.get_by_role("link", name="Order confirmation").click()
    assert "550 5.1.1 no such user" in page.inner_text(".ntf-timeline")
    mail.rules.clear()
    page.goto(url("deadletter", "groups"))
    group = page.locator(".ntf-table tbody tr")
    assert group.locator(".ntf-chip").inner_text() == "550"
    group.get_by_role("link", name="Retry…").click()
    assert "Retry 1 dead letter?" in page.inner_text(".ntf-card")
    page.get_by_role("button", name="Yes, retry").click()
    assert "It runs in the background" in page.inner_text(".messagelist")
    jobs.serve("default")
    page.reload()
    assert "1 of 1" in page.inner_text(".ntf-facts")
    jobs.serve("email")
    assert len(mail.wait_for(1)) == 1
    page.goto(f"{list_of('notification')}?q={order.number}&channel=email")
    assert page.inner_text("#result_list .ntf-chip") == "sent"


def test_the_overview_draws_and_refreshes_only_while_somebody_looks(
    open_page: Opener, mail: SmtpServer, complaints: list[str]
) -> None:
    order = make_order()
    page = open_page(list_of("hold"))
    page.clock.install()
    page.goto(list_of("overview"))
    sent = page.locator(".ntf-totals dd").first
    drawn = "Chart.getChart('ntf-steps')?.data.datasets[0].data.reduce((a, b) => a + b) ?? 0"
    assert (sent.inner_text(), page.evaluate(drawn)) == ("0", 0)
    page.select_option("#ntf-every", "5")
    confirm(order)
    jobs.serve("email")
    with page.expect_response("**/overview/**"):
        page.clock.run_for(5_100)
    expect(sent).to_have_text("1")
    assert page.evaluate(drawn) == 1
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    look_away = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(look_away % "true" + tell)
    page.clock.run_for(60_000)
    assert asked == []
    page.evaluate(look_away % "false" + tell)
    with page.expect_response("**/overview/**"):
        page.clock.run_for(5_100)
    assert complaints == []


def test_without_scripts_the_overview_tells_the_same_in_tables(
    open_page: Opener, mail: SmtpServer
) -> None:
    confirm(make_order())
    jobs.serve("email")
    page = open_page(f"{list_of('overview')}?window=7d", scripts=False)
    assert page.locator(".ntf-chart").is_hidden()
    assert page.locator(".ntf-refresh").is_hidden()
    page.click("summary")
    numbers = page.locator("details tbody td:nth-child(2)").all_inner_texts()
    assert sum(map(int, numbers)) == 1


def test_a_message_runs_no_script_in_its_preview(open_page: Opener) -> None:
    evil = '<p>hello</p><script>top.document.title = "taken"; document.title = "ran"</script>'
    with transaction.atomic():
        (row,) = send_email(
            to="bob@example.com", subject="s", html=f'{evil}<img src="x:" onerror="{evil}">'
        )
    page = open_page(page_of(row))
    frame = page.frame_locator(".ntf-preview")
    assert frame.locator("p").first.inner_text() == "hello"
    assert "taken" not in page.title()
    page.goto(reverse("admin:notifications_notification_preview", args=[row.pk]))
    assert page.inner_text("p") == "hello"
    assert page.title() == ""


PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def site() -> Iterator[tuple[str, list[str]]]:
    """The address of another site, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            self.wfile.write(PIXEL)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_preview_shows_the_shops_own_pictures_and_fetches_no_others(
    open_page: Opener, site: tuple[str, list[str]], settings: LazySettings
) -> None:
    shop, asked = site
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "FRONTEND_URL": shop}
    elsewhere = shop.replace("127.0.0.1", "localhost")
    data = base64.b64encode(PIXEL).decode()
    html = (
        f'<img id="own" src="{shop}/own.png"><img id="tracker" src="{elsewhere}/tracker.png">'
        f'<img id="data" src="data:image/png;base64,{data}">'
        f'<div style="width: 9px; height: 9px; background: url({elsewhere}/style.png)"></div>'
    )
    with transaction.atomic():
        (row,) = send_email(to="bob@example.com", subject="s", html=html)
    page = open_page(page_of(row))
    frame = page.frame_locator(".ntf-preview")
    drawn = "image => image.decode().then(() => image.naturalWidth, () => 0)"
    found = {name: frame.locator(f"#{name}").evaluate(drawn) for name in ("own", "data", "tracker")}
    assert found == {"own": 1, "data": 1, "tracker": 0}
    assert asked == ["/own.png"]
    assert "Pictures of other sites are left out" in page.inner_text("#content")
