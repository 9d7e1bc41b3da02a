"""The whole shop on one machine, to look at: `manage.py demo`.

`prepare` makes an environment in which nothing is real: a database and a mailbox in a folder of
the demonstration's own, free ports, services that only catch. In that environment `run` starts
everything, places a few orders, and shows each message as it arrives. Whatever ends this process,
its servers and children end with it.
"""

from __future__ import annotations

import fcntl
import os
import random
import secrets
import shutil
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import NoReturn
from urllib.parse import urlsplit

import django_rq
from django.conf import settings
from django.core.management import call_command
from django.urls import reverse
from redis import Redis
from redis.exceptions import RedisError
from rq import Worker

from notifications.management.commands.notifications_vapid import make_keys
from notifications.models import Attempt, DeadLetter, Notification, State
from notifications.muting import muted
from notifications.testing.guarded import GuardedProcess, find_free_port
from notifications.testing.redis_server import RedisServer
from notifications.testing.smtp_server import Received, SmtpServer
from orders.catalogue import load_customers, load_products, order_something
from orders.caught_phones import CaughtText
from orders.demo_services import REFUSED, Caught, open_services
from orders.models import Order, User

Say = Callable[[str], object]

ORDERS = 5
CONFIRMATION = "order_confirmation"
# Where the message of an order ends on each channel: over SMTP nobody reports an arrival.
ENDS = {
    "email": State.SENT,
    "whatsapp": State.READ,
    "sms": State.DELIVERED,
    "in_app": State.DELIVERED,
}
PORT = 8000  # of the web server, if it is free
READY = 30.0  # seconds the children may take to start
MARK = "SHOP_DEMO"  # in an environment that `prepare` made: the port of a Redis to start, or 0


class DemoError(Exception):
    """Raised when the demonstration cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One caught message."""

    channel: str
    words: str  # its subject, or how its text begins
    to: str
    order: Order | None  # what it is about
    kind: str
    milliseconds: int  # since the order, if it confirms one; else since it was asked for

    @property
    def confirms(self) -> bool:
        """Whether it is an order's confirmation."""
        return self.kind == CONFIRMATION


News = Arrival | DeadLetter | None


# -- the environment ------------------------------------------------------------------------


def is_prepared() -> bool:
    """Whether this process runs in an environment that `prepare` made."""
    return MARK in os.environ


def prepare(folder: Path) -> dict[str, str]:
    """The environment of a demonstration that keeps its files in `folder`."""
    web, mail, whatsapp, sms = _free_port(PORT), *(find_free_port() for _ in range(3))
    public_key, private_key = make_keys()
    redis = os.environ.get("REDIS_URL", "")
    redis_port = 0 if redis and _answers(redis) else find_free_port()
    return {
        **os.environ,
        MARK: str(redis_port),
        "DEBUG": "true",
        "ENVIRONMENT": "demo",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "ALLOWED_HOSTS": "localhost,127.0.0.1",
        "FRONTEND_URL": f"http://localhost:{web}",
        "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
        "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0" if redis_port else redis,
        "EMAIL_PROVIDERS": "smtp",
        "EMAIL_HOST": SmtpServer.host,
        "EMAIL_PORT": str(mail),
        "EMAIL_HOST_USER": "",
        "EMAIL_HOST_PASSWORD": "",
        "EMAIL_USE_TLS": "",
        "EMAIL_USE_SSL": "",
        "REDIRECT_EMAIL_TO": "",
        "ALLOWED_RECIPIENTS": "*",  # nothing gets further than to our own mail server
        "CAUGHT_MAIL": str(folder / "mail"),
        "WHATSAPP_API_URL": f"http://127.0.0.1:{whatsapp}/v24.0",
        "WHATSAPP_TOKEN": secrets.token_urlsafe(24),
        "WHATSAPP_PHONE_ID": "106540352242922",
        "WHATSAPP_BUSINESS_ID": "102290129340398",
        "WHATSAPP_APP_SECRET": secrets.token_urlsafe(24),
        "WHATSAPP_VERIFY_TOKEN": secrets.token_urlsafe(24),
        "TWILIO_API_URL": f"http://127.0.0.1:{sms}/2010-04-01",
        "TWILIO_ACCOUNT_SID": "AC" + secrets.token_hex(16),
        "TWILIO_AUTH_TOKEN": secrets.token_urlsafe(24),
        "TWILIO_FROM": "+12025550199",
        "VAPID_PUBLIC_KEY": public_key,
        "VAPID_PRIVATE_KEY": private_key,
        "CAUGHT_PHONES": str(folder / "phones"),
    }


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return find_free_port()
    return wanted


def _answers(url: str) -> bool:
    try:
        with Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as redis:
            return bool(redis.ping())
    except (RedisError, OSError, ValueError):
        return False


# -- the demonstration ----------------------------------------------------------------------


def run(folder: Path, *, once: bool, seconds: float, say: Say) -> None:
    """Show the shop until somebody presses Ctrl-C; with `once`, until its confirmations are here,
    which may take so many seconds.

    Raises DemoError, ServerError, and KeyboardInterrupt when told to stop.
    """
    began = time.monotonic()
    arrivals: SimpleQueue[Caught] = SimpleQueue()
    with ExitStack() as stack:
        stack.enter_context(_stopping_in_order())
        stack.enter_context(_own(folder))
        stack.enter_context(_redis())
        stack.enter_context(open_services(arrivals.put))
        customers = _open_shop()
        children = [
            stack.enter_context(_child(folder / "worker", "rqworker")),
            stack.enter_context(_child(folder / "web", "runserver", "--noreload", _web_port())),
        ]
        _wait_ready(*children)
        _introduce(say)
        orders = _place_orders(customers)
        watch = _watch(arrivals, children)
        if once:
            _wait_for_all(watch, orders, seconds, say)
            _sum_up(orders, time.monotonic() - began, say)
            return
        for news in watch:
            _show(news, say)


def _open_shop() -> list[User]:
    """Fill an empty database; the customers."""
    call_command("migrate", verbosity=0, interactive=False)
    load_products()
    with muted():
        User.objects.create_superuser("demo", "demo@example.com", "demo", first_name="Demo")
    return load_customers(ORDERS)


def _place_orders(customers: Sequence[User]) -> list[Order]:
    """An order of each customer; and somebody signs up whom the mail server does not know."""
    products, dice = load_products(), random.Random()
    orders = [order_something(customer, products, dice=dice) for customer in customers]
    User.objects.create_user(REFUSED, REFUSED, first_name="Nobody")
    return orders


def _watch(arrivals: SimpleQueue[Caught], children: Sequence[GuardedProcess]) -> Iterator[News]:
    """Each message as it arrives, each new dead letter, and None now and then.

    Raises DemoError if a child ends.
    """
    dead = 0  # the newest one's id
    while True:
        for child in children:
            if not child.running:
                raise DemoError(f"A process ended.\n{_end_of(child)}")
        try:
            yield _read(arrivals.get(timeout=0.2))
        except Empty:
            yield None
        for letter in DeadLetter.objects.filter(pk__gt=dead).order_by("pk"):
            dead = letter.pk
            yield letter


def _wait_for_all(watch: Iterator[News], orders: Sequence[Order], seconds: float, say: Say) -> None:
    """Until each order's confirmations are in the mail, on the phone and in the app, with what the
    services report of them, and the refused mail is a dead letter. Raises DemoError."""
    mailed: set[int] = set()
    dead = False
    until = time.monotonic() + seconds
    for news in watch:
        _show(news, say)
        if isinstance(news, DeadLetter):
            dead = True
        elif news and news.confirms and news.order and news.channel == "email":
            mailed.add(news.order.pk)
        if dead and len(mailed) == len(orders) and all(map(_has_ended, orders)):
            return
        if time.monotonic() > until:
            raise DemoError(_what_is_missing(orders, mailed, seconds))


def _confirmations(order: Order) -> dict[str, Notification]:
    """The rows of an order's confirmation that got to the end of their channel."""
    rows = Notification.objects.filter(
        about_type=Order._meta.label_lower, about_id=str(order.pk), kind=CONFIRMATION
    )
    return {row.channel: row for row in rows if row.state == ENDS[row.channel]}


def _has_ended(order: Order) -> bool:
    found = _confirmations(order).keys()
    return {"email", "in_app"} <= found and bool({"whatsapp", "sms"} & found)


def _read(caught: Caught) -> Arrival:
    match caught:
        case Received():
            number = int(caught.notification_id or 0)
            at = datetime.fromtimestamp(time.time() - (time.monotonic() - caught.at), tz=UTC)
            channel, words = "email", str(caught.message["Subject"])
        case CaughtText():
            number, at = caught.notification, datetime.fromtimestamp(caught.at, tz=UTC)
            channel, words = caught.channel, caught.text.replace("\n", " ")
    row = Notification.objects.filter(pk=number).first()
    kind = row.kind if row else ""
    order = None
    if row and row.about_type == Order._meta.label_lower:
        order = Order.objects.filter(pk=row.about_id).first()
    since = row.created_at if row else at
    if order and kind == CONFIRMATION:
        since = order.created_at
    return Arrival(
        channel=channel,
        words=words,
        to=caught.to,
        order=order,
        kind=kind,
        milliseconds=max(0, round((at - since).total_seconds() * 1000)),
    )


# -- what people read -----------------------------------------------------------------------


def _introduce(say: Say) -> None:
    say("")
    for label, view in [
        ("The shop", "shop"),
        ("Its mail", "caught_mail"),
        ("Phones", "caught_phones"),
        ("The admin", "admin:index"),
        ("Dead letters", "admin:notifications_deadletter_changelist"),
    ]:
        say(f"  {label:<14}{settings.FRONTEND_URL}{reverse(view)}")
    say(f"  {'User':<14}demo, password demo")
    say("")
    say(f"Placing {ORDERS} orders. Each message, as it arrives:")


def _show(news: News, say: Say) -> None:
    match news:
        case Arrival():
            since = "the order" if news.confirms else "it was asked for"
            what = f"  {news.channel:<8}  {news.to:<22}  {news.words[:46]}"
            say(f"{what:<82}  {news.milliseconds} ms after {since}")
        case DeadLetter():
            to = news.notification.to if news.notification else news.name
            say(f"  {'email':<8}  {to:<22}  refused for good, now a dead letter: {news.reason}")


def _sum_up(orders: Sequence[Order], seconds: float, say: Say) -> None:
    say("")
    say(f"  {'Order':<11}{'Channel':<10}{'To':<24}{'State':<11}{'Provider id':<22}After")
    for order in orders:
        for row in sorted(_confirmations(order).values(), key=lambda row: row.pk):
            to = "in the app" if row.channel == "in_app" else row.to
            attempt = Attempt.objects.filter(notification=row).order_by("pk").last()
            provider_id = attempt.message_id[:18] if attempt else ""
            sent_at = row.settled_at or row.created_at
            milliseconds = round((sent_at - order.created_at).total_seconds() * 1000)
            say(
                f"  {order.number:<11}{row.channel:<10}{to:<24}{row.state:<11}"
                f"{provider_id:<22}{milliseconds} ms"
            )
    say("")
    say(
        f"{len(orders)} orders, {len(orders)} confirmations on each channel, "
        f"{DeadLetter.objects.count()} dead letter (DLQ), in {seconds:.1f} s."
    )


def _what_is_missing(orders: Sequence[Order], mailed: set[int], seconds: float) -> str:
    states = [
        f"notification {row.pk} ({row.kind}, {row.channel}): {row.state} {row.reason}"
        for row in Notification.objects.order_by("pk")
    ]
    found = (
        f"After {seconds:g} s {len(mailed)} of {len(orders)} confirmations are in the mail, "
        f"{sum(map(_has_ended, orders))} of {len(orders)} orders are confirmed on every channel, "
        f"and {DeadLetter.objects.count()} of 1 dead letter is here. The logs are in the demo's "
        f"folder."
    )
    return "\n".join([found, *states])


def _end_of(child: GuardedProcess) -> str:
    lines = child.log.read_text(errors="replace").splitlines()[-20:]
    return "\n".join([f"The end of {child.log}:", *lines])


# -- servers and children -------------------------------------------------------------------


@contextmanager
def _own(folder: Path) -> Iterator[None]:
    """Empty the folder, which one demonstration at a time may use. Raises DemoError."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoError(f"Another demonstration runs in {folder}; stop it first.") from None
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()
        yield


@contextmanager
def _redis() -> Iterator[None]:
    """A Redis at REDIS_URL, started where there was none."""
    with ExitStack() as stack:
        if port := int(os.environ[MARK]):
            server = RedisServer()
            server.port = port
            stack.enter_context(server)
        yield


@contextmanager
def _child(folder: Path, *words: str) -> Iterator[GuardedProcess]:
    """`manage.py words`, with its log in `folder`."""
    folder.mkdir()
    program = settings.BASE_DIR / "manage.py"
    process = GuardedProcess([sys.executable, str(program), *words], folder=folder)
    try:
        yield process
    finally:
        process.stop()


def _wait_ready(worker: GuardedProcess, web: GuardedProcess) -> None:
    """Until the worker listens and the web server answers. Raises ServerError."""
    connection = django_rq.get_connection("email")
    worker.wait_until(
        lambda: any(each.pid == worker.pid for each in Worker.all(connection=connection)),
        seconds=READY,
    )
    web.wait_until(_web_answers, seconds=READY)


def _web_answers() -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{_web_port()}/", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _web_port() -> str:
    return str(urlsplit(settings.FRONTEND_URL).port)


@contextmanager
def _stopping_in_order() -> Iterator[None]:
    """A closed terminal and SIGTERM end the block like Ctrl-C does; once, so that nothing
    interrupts the cleaning up."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
