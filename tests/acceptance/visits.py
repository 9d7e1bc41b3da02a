"""Pages of the site, opened by somebody in the real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.test import Client
from playwright.sync_api import Browser, Page, Route

from orders.models import User
from tests.acceptance.chromium import POLICY

Opener = Callable[..., Page]


@contextmanager
def visits(browser: Browser, site: str, user: User, complaints: list[str]) -> Iterator[Opener]:
    """`open_page(path, width=…, scheme=…, scripts=…)`, logged in as `user`; what pages complain
    about goes into `complaints`."""
    session = Client()
    session.force_login(user)
    cookie = {"name": "sessionid", "value": session.cookies["sessionid"].value, "url": site}
    with ExitStack() as stack:

        def open_page(
            path: str, *, width: int = 1280, scheme: Any = "light", scripts: bool = True
        ) -> Page:
            context = browser.new_context(
                base_url=site,
                viewport={"width": width, "height": 900},
                color_scheme=scheme,
                java_script_enabled=scripts,
            )
            stack.callback(context.close)
            context.add_cookies([cookie])
            context.route("**/*", _send_policy)
            context.set_default_timeout(10_000)
            page = context.new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(path)
            return page

        yield open_page


def _send_policy(route: Route) -> None:
    """A site that allows nothing inline; what brings a policy of its own keeps it."""
    if route.request.resource_type != "document" or route.request.method != "GET":
        route.continue_()
        return
    answer = route.fetch(max_redirects=0)
    route.fulfill(response=answer, headers={"content-security-policy": POLICY, **answer.headers})
