"""Every screen of the admin, of a shop after a busy day: it fits, and it can be read.

    pytest tests/acceptance/test_admin_pictures.py --pictures FOLDER

keeps a picture of each, light and dark, wide and as a telephone shows it; `make pictures` puts the
best of them into docs/pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.urls import resolve
from playwright.sync_api import Browser, Page
from pytest_django.live_server_helper import LiveServer
from redis import Redis

from notifications import overview
from notifications.kinds import all_kinds
from notifications.muting import muted
from orders.models import User
from tests.acceptance import busy_shop
from tests.acceptance.chromium import MARKS
from tests.acceptance.visits import visits
from tests.admin.screens import list_of, page_of, url
from tests.admin.test_matrix import OPEN, VIEWER

pytestmark = [*MARKS, pytest.mark.timeout(1800)]

# What is wider than the window, and text that is hard to tell from what is behind it
# (WCAG 2.2, 1.4.3: at least 4.5 : 1). Chips are half transparent: colours are drawn, then read.
MEASURE = """() => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const light = colours => {
    pen.clearRect(0, 0, 1, 1);
    for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
    const linear = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map(
      part => part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = element => element
    ? [...behind(element.parentElement), getComputedStyle(element).backgroundColor] : ["#fff"];
  const contrasts = [...document.querySelectorAll(
    "[class*=ntf-], [class*=ntf-] *, #content td, #content p, #content label, #content .readonly")]
    .filter(each => each.checkVisibility() && each.innerText && !each.closest(".button"))
    .map(each => {
      const back = behind(each);
      const [a, b] = [light(back), light([...back, getComputedStyle(each).color])];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), each.className + each.innerText];
    });
  return {
    hidden: [document.documentElement, ...document.querySelectorAll(".results")]
      .filter(each => each.scrollWidth > each.clientWidth).map(each => each.className),
    count: contrasts.length,
    faint: contrasts.filter(([contrast]) => contrast < 4.5),
  };
}"""

LOOKS: dict[str, tuple[Any, int]] = {
    "light": ("light", 1280), "dark": ("dark", 1280),
    "phone": ("light", 375), "phone-dark": ("dark", 375),
}  # fmt: skip
ALWAYS = ("dark", "phone")  # both schemes and both widths, without twice the time


@dataclass(frozen=True)
class Shot:
    """One page, and what is done there before it is looked at."""

    path: str
    act: Callable[[Page], None] | None = None
    framed: bool = False  # made to stand in a frame: it has none of the admin's own


Shots = dict[str, Shot]

# The kinds of tests are no kinds of the shop.
OURS = {name: kind for name, kind in all_kinds().items() if not name.startswith("test_")}

# Of these the docs have a picture: its name there, and how many pixels of its height.
DOCS = {
    "found": ("notifications", 680), "overview": ("overview", 940), "delivered": ("preview", 1000),
    "letter": ("dead-letter", 560), "groups": ("groups", 420), "many": ("retry-many", 420),
    "queue": ("queue", 790), "template-whatsapp": ("template", 660),
}  # fmt: skip
WIDTH = 1100  # of a picture in the docs
CLOSE_SIDEBAR = "localStorage.setItem('django.admin.navSidebarIsOpen', 'false')"


LISTS = {
    "overview": "overview", "notifications": "notification", "tasks": "task",
    "letters": "deadletter", "holds": "hold", "queues": "queue", "workers": "worker",
    "templates": "message", "events": "event", "log": "deed", "tokens": "apitoken",
    "suppressions": "suppression", "registered": "registeredtemplate",
}  # fmt: skip
MESSAGES = (
    "sent", "dead_row", "retrying", "bounced", "complained", "whatsapp", "fallen", "sms", "in_app",
    "suppressed", "cancelled", "expired", "unknown", "secret", "no_kind", "again", "scheduled",
    "push", "under_way", "held", "erased",
)  # fmt: skip


def lists() -> Shots:
    return {name: Shot(list_of(model)) for name, model in LISTS.items()}


def shots(rows: busy_shop.Pages) -> Shots:
    """Every page, in every state it can be in."""
    letters, notes = list_of("deadletter"), list_of("notification")
    template = url("message", "one", "order_confirmation", "email")
    names = {"sent": "delivered"}
    return {
        **lists(),
        "apps": Shot("/admin/notifications/"),
        **{
            f"overview-{each}": Shot(f"{list_of('overview')}?window={each}")
            for each in ("1h", "7d", "30d")
        },
        **{names.get(each, each): Shot(page_of(rows[each])) for each in MESSAGES},
        "found": Shot(f"{notes}?q={rows['order'].number}"),
        "found-nothing": Shot(f"{notes}?q=nothing"),
        "failed": Shot(f"{notes}?standing=failed&kind=payment_receipt"),
        "resend": Shot(url("notification", "resend", rows["sent"].pk)),
        "preview": Shot(url("notification", "preview", rows["sent"].pk), framed=True),
        "history": Shot(url("notification", "history", rows["cancelled"].pk)),
        "task": Shot(page_of(rows["task"])),
        "task-retrying": Shot(page_of(rows["due"])),
        "task-running": Shot(page_of(rows["running"])),
        "bulk": Shot(page_of(rows["bulk"])),
        "bulk-done": Shot(page_of(rows["bulk_done"])),
        "task-history": Shot(url("task", "history", rows["task"].pk)),
        "letter": Shot(page_of(rows["dead"])),
        "letter-of-task": Shot(page_of(rows["dead_task"])),
        "letter-history": Shot(url("deadletter", "history", rows["dead"].pk)),
        "letter-delete": Shot(url("deadletter", "delete", rows["dead"].pk)),
        "letters-of-code": Shot(f"{letters}?code=550"),
        "groups": Shot(url("deadletter", "groups")),
        "many": Shot(f"{url('deadletter', 'many')}?verb=retry"),
        "many-discard": Shot(f"{url('deadletter', 'many')}?verb=discard"),
        "chosen": Shot(letters, choose("discard_chosen")),
        "hold": Shot(page_of(rows["hold"])),
        "hold-history": Shot(url("hold", "history", rows["hold"].pk)),
        "queue": Shot(url("queue", "one", "email")),
        "queue-paused": Shot(url("queue", "one", "documents")),
        "queue-held": Shot(url("queue", "one", "whatsapp")),
        "queue-refused": Shot(url("queue", "one", "email"), empty_wrongly),
        "template": Shot(template),
        "template-german": Shot(f"{template}?language=de"),
        "template-whatsapp": Shot(url("message", "one", "order_confirmation", "whatsapp")),
        "template-sms": Shot(url("message", "one", "order_confirmation", "sms")),
        "template-in-app": Shot(url("message", "one", "order_confirmation", "in_app")),
        "picture": Shot(url("message", "picture", "order_confirmation", "sms"), framed=True),
        "log-of-mia": Shot(f"{list_of('deed')}?q=mia"),
        "suppression": Shot(page_of(rows["suppression"])),
        "suppression-history": Shot(url("suppression", "history", rows["suppression"].pk)),
        "suppressions-refused": Shot(list_of("suppression"), suppress_wrongly),
        "registered-one": Shot(page_of(rows["template"])),
        "registered-history": Shot(url("registeredtemplate", "history", rows["template"].pk)),
        "token": Shot(page_of(rows["token"])),
        "token-add": Shot(url("apitoken", "add")),
        "token-delete": Shot(url("apitoken", "delete", rows["token"].pk)),
        "token-history": Shot(url("apitoken", "history", rows["token"].pk)),
    }


def changes() -> Shots:
    """Pages that come after something was done, so they come last."""
    return {
        "retried": Shot(list_of("notification"), choose("retry_chosen")),
        "token-made": Shot(url("apitoken", "add"), make_token),
    }


def choose(action: str) -> Callable[[Page], None]:
    """Do `action` to the first two rows of a list."""

    def act(page: Page) -> None:
        for number in range(2):
            page.locator(".action-select").nth(number).check()
        page.select_option("select[name=action]", action)
        page.locator(".actions button[type=submit]").click()

    return act


def empty_wrongly(page: Page) -> None:
    page.fill("[name=name]", "e-mail")
    page.get_by_role("button", name="Empty").click()


def suppress_wrongly(page: Page) -> None:
    page.select_option("[name=channel]", "sms")
    page.fill("[name=address]", "call me")
    page.get_by_role("button", name="Write to it no more").click()


def make_token(page: Page) -> None:
    page.fill("[name=name]", "nightly report")
    page.get_by_role("button", name="Save", exact=True).click()


# -- the tests ------------------------------------------------------------------------------------


@pytest.fixture
def boss() -> User:
    with muted():
        return User.objects.create_superuser("boss", "boss@example.com", first_name="Bo")


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path | None:
    given = request.config.getoption("--pictures")
    return Path(given) if given else None


@pytest.fixture
def look_at(
    browser: Browser, live_server: LiveServer, complaints: list[str], folder: Path | None
) -> Callable[..., None]:
    """`look_at(user, shots)` in each look; keeps pictures if there is a folder for them."""

    def for_the_docs(user: User, shots: Shots, folder: Path) -> None:
        with visits(browser, live_server.url, user, complaints) as open_page:
            page = open_page("/admin/notifications/", width=WIDTH)
            page.evaluate(CLOSE_SIDEBAR)
            for name in DOCS.keys() & shots.keys():
                busy_shop.beat()
                page.goto(shots[name].path)
                keep(page, folder / f"{DOCS[name][0]}.png", DOCS[name][1])

    def look_at(user: User, shots: Shots, prefix: str = "") -> None:
        problems = []
        if folder is not None and not prefix:
            for_the_docs(user, shots, folder / "docs")
        for look in LOOKS if folder else ALWAYS:
            scheme, width = LOOKS[look]
            with visits(browser, live_server.url, user, complaints) as open_page:
                page = open_page("/admin/notifications/", width=width, scheme=scheme)
                for name, shot in shots.items():
                    if prefix in ("", "viewer-"):
                        busy_shop.beat()
                    page.goto(shot.path)
                    if shot.act is not None:
                        shot.act(page)
                        page.wait_for_load_state()
                    if folder is not None:
                        keep(page, folder / look / f"{prefix}{name}.png")
                    if problem := find_problem(page, shot):
                        problems.append((look, name, problem))
        assert problems == []
        assert complaints == []

    return look_at


def find_problem(page: Page, shot: Shot) -> Any:
    found = page.evaluate(MEASURE)
    empty = not found["count"] and not shot.framed
    return [*found["hidden"], *found["faint"], *(["nothing to read"] if empty else [])]


def keep(page: Page, path: Path, height: int = 0) -> None:
    """A picture of all of the page; with a `height`, of the beginning of its content."""
    for frame in page.locator("iframe").all():  # out of sight they are not drawn
        frame.scroll_into_view_if_needed()
        page.wait_for_timeout(400)
    clip: Any = None
    if height:
        top = page.locator("#content").evaluate("it => it.getBoundingClientRect().y + scrollY")
        clip = {"x": 0, "y": top, "width": WIDTH, "height": height}
    page.screenshot(path=path, full_page=True, clip=clip)


@pytest.mark.pictures
def test_every_screen_of_a_busy_shop_fits_and_can_be_read(
    look_at: Callable[..., None], boss: User, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with busy_shop.services(), busy_shop.workers():
        rows = busy_shop.build(boss)
        every = shots(rows)
        monkeypatch.setattr("notifications.kinds._registry", OURS)
        shown = {resolve(shot.path.partition("?")[0]).url_name for shot in every.values()}
        doors = {f"notifications_{each.model}_{each.page}" for each in OPEN if each.data is None}
        assert doors <= shown
        look_at(boss, every)
        look_at(boss, changes())
        monkeypatch.setattr(overview, "LOOKED_AT", 40)  # as if there were many more
        tallied = Shot(f"{list_of('overview')}?window=30d")
        lately = Shot(f"{list_of('overview')}?window=1h")
        look_at(boss, {"overview-tallied": tallied, "overview-lately": lately})


def test_who_may_see_little_sees_whole_pages(
    look_at: Callable[..., None], boss: User, redis: Redis
) -> None:
    with muted():
        viewer = User.objects.create_user("vera", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__in=VIEWER))
    with busy_shop.services(), busy_shop.workers():
        rows = busy_shop.build(boss)
        pages = {name: Shot(page_of(rows[name])) for name in ("sent", "in_app", "task", "dead")}
        del (own := lists())["log"]
        look_at(viewer, {**own, **pages}, "viewer-")


def test_a_shop_where_nothing_happened_says_so(look_at: Callable[..., None], boss: User) -> None:
    groups, queue = Shot(url("deadletter", "groups")), Shot(url("queue", "one", "email"))
    look_at(boss, {**lists(), "groups": groups, "queue": queue}, "empty-")


def test_without_redis_the_screens_say_what_they_do_not_know(
    look_at: Callable[..., None], boss: User, redis_server: Any
) -> None:
    redis_server.stop()
    some = {name: lists()[name] for name in ("overview", "queues", "workers")}
    look_at(boss, some, "away-")
