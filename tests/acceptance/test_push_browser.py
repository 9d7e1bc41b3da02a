"""Web push in a real browser: the switch, the service worker, the message it shows.

The makers' push services are out of reach, so the browser's own subscription is replaced by one of
the local push service, and what that has decrypted is handed to the service worker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from django.db import transaction
from django.test import Client, override_settings
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from notifications import conf, contents, jobs, subscribing
from notifications.dispatch import notify
from notifications.management.commands.notifications_vapid import make_keys
from notifications.models import PushSubscription
from notifications.testing.push_server import PushServer
from orders.models import User
from orders.notifications import OrderStatusUpdate
from tests.acceptance.chromium import MARKS
from tests.orders.shop import make_customer, make_order

pytestmark = MARKS

PUBLIC, PRIVATE = make_keys()

# What the switch sees instead of the browser's push manager.
STAND_IN = """
const given = %s;
let current = null;
const make = (given, key) => ({
  endpoint: given.endpoint,
  options: { applicationServerKey: key.buffer },
  toJSON: () => given,
  unsubscribe: async () => { current = null; return true; },
});
window.subscribedBefore = (given) => { current = make(given, new Uint8Array(65)); };
PushManager.prototype.getSubscription = async () => current;
PushManager.prototype.subscribe = async (options) => {
  window.askedWith = options.applicationServerKey.length;
  if (current) throw new DOMException("with another key", "InvalidStateError");
  return (current = make(given, options.applicationServerKey));
};
"""


@pytest.fixture
def ada() -> User:
    return make_customer()


@pytest.fixture
def server() -> Iterator[PushServer]:
    backend = "notifications.providers.webpush.WebPush"
    options = {
        "PUBLIC_KEY": PUBLIC,
        "PRIVATE_KEY": PRIVATE,
        "CONTACT": "mailto:shop@example.com",
        "HOSTS": ["127.0.0.1"],
    }
    with PushServer(public_key=PUBLIC) as server, override_settings(
        NOTIFICATIONS={
            "ENVIRONMENT": "test",
            "RECIPIENTS": "*",
            "FRONTEND_URL": "https://shop.example.com",
            "CHANNELS": {"push": {}},
            "PROVIDERS": {"webpush": {"BACKEND": backend, "OPTIONS": options}},
        }
    ):  # fmt: skip
        yield server


@pytest.fixture
def page(
    browser: Browser, live_server: LiveServer, ada: User, server: PushServer
) -> Iterator[Page]:
    session = Client()
    session.force_login(ada)
    context = browser.new_context(
        base_url=live_server.url.replace("127.0.0.1", "localhost"),
        permissions=["notifications"],
    )
    url = live_server.url.replace("127.0.0.1", "localhost")
    cookie = {"name": "sessionid", "value": session.cookies["sessionid"].value, "url": url}
    context.add_cookies([cookie])  # type: ignore[list-item]  # a TypedDict of theirs
    context.set_default_timeout(10_000)
    context.add_init_script(STAND_IN % json.dumps(server.subscribe()))
    page = context.new_page()
    yield page
    context.close()


def test_a_customer_turns_it_on_sees_a_message_and_turns_it_off(
    page: Page, ada: User, server: PushServer
) -> None:
    page.goto(reverse("account"))
    switch = page.get_by_role("button", name="Notify me in this browser")
    expect(switch).to_be_visible()
    switch.click()
    expect(page.get_by_role("button", name="Notify me here no more")).to_be_visible()
    assert page.evaluate("window.askedWith") == 65  # the site's public key, an uncompressed point
    assert PushSubscription.objects.get().user == ada

    order = make_order(customer=ada)
    with transaction.atomic():
        notify(
            OrderStatusUpdate,
            to=ada,
            context={"order_id": order.pk, "status": "shipped"},
            about=order,
            channels=["push"],
        )
    jobs.serve(conf.channel("push").queue)
    [received] = server.wait_for(1)
    assert received.content["title"] == f"Your order {order.number} has left us"
    assert received.content["link"] == f"https://shop.example.com{order.get_absolute_url()}"

    shown = push(page, received.content)
    assert shown == [[received.content["title"], received.content["text"]]]

    page.get_by_role("button", name="Notify me here no more").click()
    expect(switch).to_be_visible()
    assert not PushSubscription.objects.exists()


def test_a_browser_of_former_keys_is_subscribed_anew(
    page: Page, ada: User, server: PushServer
) -> None:
    former = server.subscribe()
    subscribing.subscribe(ada, former)
    page.add_init_script(f"subscribedBefore({json.dumps(former)})")
    page.goto(reverse("account"))
    expect(page.get_by_role("button", name="Notify me here no more")).to_be_visible()
    assert page.evaluate("window.askedWith") == 65
    present = contents.unseal(PushSubscription.objects.get().sealed)
    assert present["endpoint"] != former["endpoint"]


def push(page: Page, content: dict[str, object]) -> object:
    """Hand a message to the service worker as the browser would; what it then shows."""
    session = page.context.new_cdp_session(page)
    registrations: list[str] = []
    session.on(
        "ServiceWorker.workerRegistrationUpdated",
        lambda event: registrations.extend(
            each["registrationId"] for each in event["registrations"]
        ),
    )
    session.send("ServiceWorker.enable")
    page.wait_for_function("navigator.serviceWorker.ready.then(() => true)")
    session.send(
        "ServiceWorker.deliverPushMessage",
        {
            "origin": page.evaluate("location.origin"),
            "registrationId": registrations[0],
            "data": json.dumps(content),
        },
    )
    page.wait_for_function(
        "navigator.serviceWorker.ready.then((r) => r.getNotifications())"
        ".then((each) => each.length > 0)"
    )
    return page.evaluate(
        "navigator.serviceWorker.ready.then((r) => r.getNotifications())"
        ".then((all) => all.map((each) => [each.title, each.body]))"
    )
