"""Mails and pages in a real browser, on a phone and on a desk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, sync_playwright
from pytest_django.live_server_helper import LiveServer

from notifications.kinds import Kind
from orders.catalogue import load_products
from tests.orders.shop import make_order
from tests.orders.test_notifications import KINDS, LANGUAGES, compose_sample

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
WORDS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)

T = TypeVar("T")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium"),
]


class Browser:
    """Chromium on a thread of its own: Django refuses its database to playwright's."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._thread.submit(self._start).result()

    def __call__(self, look: Callable[[Page], T]) -> T:
        """What `look` finds on a new page."""

        def open_page() -> T:
            page = self._context.new_page()
            try:
                return look(page)
            finally:
                page.close()

        return self._thread.submit(open_page).result()

    def _start(self) -> None:
        self._playwright = sync_playwright().start()
        self._context = self._playwright.chromium.launch_persistent_context(
            self._folder.name, executable_path=PROGRAM, args=WORDS.split()
        )

    def _stop(self) -> None:
        self._context.close()
        self._playwright.stop()

    def close(self) -> None:
        self._thread.submit(self._stop).result()
        self._thread.shutdown()
        self._folder.cleanup()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


def check_width(page: Page, width: int) -> None:
    """Nothing sticks out to the right, and nothing is too small to read or to hit."""
    page.set_viewport_size({"width": width, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        """[...document.querySelectorAll("p, td, a, h1, h2, li, label")]
        .filter(each => each.innerText?.trim() && each.offsetParent)
        .map(each => parseFloat(getComputedStyle(each).fontSize))
        .filter(size => size < 13).length"""
    )
    assert small == 0


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_mails_fit_phones_and_desks(browser: Browser, kind: type[Kind], language: str) -> None:
    mail = compose_sample(kind, language)

    def look(page: Page) -> list[str]:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.set_content(mail.html)
        for width, margin in ((375, 8), (800, 100)):
            check_width(page, width)
            sheet = page.locator(".sheet").bounding_box()
            assert sheet is not None
            assert (sheet["x"], sheet["width"]) == (margin, width - 2 * margin)
            assert page.locator("h1").is_visible()
            button = page.locator(".button a").bounding_box()
            assert button is not None
            assert button["height"] >= 44, "a thumb hits it"
        assert not page.locator(".preheader").is_visible()
        return asked

    assert browser(look) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_mails_can_be_read_by_day_and_by_night(
    browser: Browser, kind: type[Kind], scheme: Literal["light", "dark"]
) -> None:
    """WCAG 2.1, 1.4.3: text stands out from its background by 4.5 to 1."""
    mail = compose_sample(kind, "en")

    def look(page: Page) -> object:
        page.emulate_media(color_scheme=scheme)
        page.set_content(mail.html)
        return page.evaluate(FAINT)

    assert browser(look) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_phones_and_desks(
    browser: Browser, live_server: LiveServer, scheme: Literal["light", "dark"]
) -> None:
    load_products()
    order = make_order()
    client = Client()
    client.force_login(order.customer)
    session = client.cookies["sessionid"].value
    names = ("shop", "basket", "account", "sign_up", "password_reset")

    def look(page: Page) -> list[str]:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
        page.emulate_media(color_scheme=scheme)
        for path in [order.get_absolute_url(), *map(reverse, names)]:
            page.goto(live_server.url + path)
            for width in (375, 1100):
                check_width(page, width)
            assert page.evaluate(FAINT) == [], path
        return asked

    assert all(url.startswith(live_server.url) for url in browser(look))


# The texts that do not stand out from what is behind them, as [text, contrast]; after the formulas
# of WCAG 2.1, "relative luminance" and "contrast ratio".
FAINT = """
(() => {
  const parse = color => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map(value => value / 255)
    .map(value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = element => {
    for (let each = element; each; each = each.parentElement) {
      const color = parse(getComputedStyle(each).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const own = element => [...element.childNodes]
    .some(node => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
  return [...document.body.querySelectorAll("*")]
    .filter(each => own(each) && each.offsetParent && each.offsetWidth > 1
      && getComputedStyle(each).opacity !== "0")
    .map(each => {
      const [one, two] = [light(parse(getComputedStyle(each).color)), light(behind(each))];
      const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
      return [each.textContent.trim().slice(0, 40), Math.round(contrast * 10) / 10];
    })
    .filter(([, contrast]) => contrast < 4.5);
})()
"""
