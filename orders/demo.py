"""The whole shop on one machine, to look at: `manage.py demo`.

`prepare` makes an environment in which nothing is real: a database and a mailbox in a folder of
the demonstration's own, free ports, a mail server that only catches. In that environment `run`
starts everything, places a few orders, and shows each message as it arrives. Whatever ends this
process, its servers and children end with it.
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

from notifications.models import DeadLetter, Notification
from notifications.muting import muted
from notifications.testing.guarded import GuardedProcess, find_free_port
from notifications.testing.redis_server import RedisServer
from notifications.testing.smtp_server import Received, Rule, SmtpServer
from orders.catalogue import (
    address_of,
    draw_basket,
    draw_payment,
    load_customers,
    load_products,
)
from orders.checkout import place_order
from orders.models import Order, User

Say = Callable[[str], object]

ORDERS = 5
REFUSED = "refused@example.com"  # the mail server does not know this address
PORT = 8000  # of the web server, if it is free
READY = 30.0  # seconds the children may take to start
MARK = "SHOP_DEMO"  # in an environment that `prepare` made: the port of a Redis to start, or 0


class DemoError(Exception):
    """Raised when the demonstration cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One caught message."""

    subject: str
    to: str
    order: Order | None  # what it is about
    kind: str
    milliseconds: int  # since the order, if it confirms one; else since it was asked for

    @property
    def confirms(self) -> bool:
        """Whether it is an order's confirmation."""
        return self.kind == "order_confirmation"


News = Arrival | DeadLetter | None


# -- the environment ------------------------------------------------------------------------


def is_prepared() -> bool:
    """Whether this process runs in an environment that `prepare` made."""
    return MARK in os.environ


def prepare(folder: Path) -> dict[str, str]:
    """The environment of a demonstration that keeps its files in `folder`."""
    web, mail = _free_port(PORT), find_free_port()
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
    arrivals: SimpleQueue[Received] = SimpleQueue()
    with ExitStack() as stack:
        stack.enter_context(_stopping_in_order())
        stack.enter_context(_own(folder))
        stack.enter_context(_redis())
        stack.enter_context(_mail_server(arrivals))
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
            confirmations = _wait_for_all(watch, orders, seconds, say)
            _sum_up(orders, confirmations, time.monotonic() - began, say)
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
    orders = [
        place_order(
            customer,
            basket=draw_basket(products, dice=dice),
            payment=draw_payment(dice),
            address=address_of(customer),
        )
        for customer in customers
    ]
    User.objects.create_user(REFUSED, REFUSED, first_name="Nobody")
    return orders


def _watch(arrivals: SimpleQueue[Received], children: Sequence[GuardedProcess]) -> Iterator[News]:
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


def _wait_for_all(
    watch: Iterator[News], orders: Sequence[Order], seconds: float, say: Say
) -> dict[int, Arrival]:
    """The confirmations by order, once all are here and the refused mail is a dead letter."""
    confirmations: dict[int, Arrival] = {}
    dead = False
    until = time.monotonic() + seconds
    for news in watch:
        _show(news, say)
        if isinstance(news, DeadLetter):
            dead = True
        elif news and news.confirms and news.order:
            confirmations[news.order.pk] = news
        if dead and len(confirmations) == len(orders):
            break
        if time.monotonic() > until:
            raise DemoError(_what_is_missing(orders, confirmations, seconds))
    return confirmations


def _read(received: Received) -> Arrival:
    at = datetime.fromtimestamp(time.time() - (time.monotonic() - received.at), tz=UTC)
    row = Notification.objects.filter(pk=int(received.notification_id or 0)).first()
    kind = row.kind if row else ""
    order = None
    if row and row.about_type == Order._meta.label_lower:
        order = Order.objects.filter(pk=row.about_id).first()
    since = row.created_at if row else at
    if order and kind == "order_confirmation":
        since = order.created_at
    return Arrival(
        subject=str(received.message["Subject"]),
        to=received.to,
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
            what = f"  {news.to:<24}  {news.subject}"
            say(f"{what:<76}  {news.milliseconds} ms after {since}")
        case DeadLetter():
            to = news.notification.to if news.notification else news.name
            say(f"  {to:<24}  refused for good, now a dead letter: {news.reason}")


def _sum_up(
    orders: Sequence[Order], confirmations: dict[int, Arrival], seconds: float, say: Say
) -> None:
    say("")
    say(f"  {'Order':<11}{'Confirmed to':<26}After")
    for order in orders:
        arrival = confirmations[order.pk]
        say(f"  {order.number:<11}{arrival.to:<26}{arrival.milliseconds} ms")
    say("")
    say(
        f"{len(orders)} orders, {len(confirmations)} confirmations, "
        f"{DeadLetter.objects.count()} dead letter (DLQ), in {seconds:.1f} s."
    )


def _what_is_missing(
    orders: Sequence[Order], confirmations: dict[int, Arrival], seconds: float
) -> str:
    states = [
        f"notification {row.pk} ({row.kind}): {row.state} {row.reason}"
        for row in Notification.objects.order_by("pk")
    ]
    found = (
        f"After {seconds:g} s {len(confirmations)} of {len(orders)} confirmations are here and "
        f"{DeadLetter.objects.count()} of 1 dead letter. The logs are in the demo's folder."
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
def _mail_server(arrivals: SimpleQueue[Received]) -> Iterator[None]:
    refuses = Rule("RCPT", "550 5.1.1 there is no such mailbox", match=REFUSED)
    with SmtpServer(
        port=settings.EMAIL_PORT,
        rules=[refuses],
        folder=Path(settings.CAUGHT_MAIL),
        on_message=arrivals.put,
    ):
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
