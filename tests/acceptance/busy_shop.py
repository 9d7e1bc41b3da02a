"""A shop after a busy day: messages and tasks in every state, for tests and pictures of the admin.

What a worker, a provider or a person leads to is led to by them: mail, WhatsApp and SMS go over
local servers. What takes hours is written into the rows: the last day and the last month.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.test import override_settings
from django.utils import timezone
from rq import Worker
from rq.utils import now, utcformat

from notifications import bulk, contents, health, holds, jobs, operations, receipts
from notifications.bulk import Verb
from notifications.channels import whatsapp_registry
from notifications.channels.push import public_key
from notifications.connections import quick_redis
from notifications.dispatch import notify, send_email
from notifications.management.commands.notifications_vapid import make_keys
from notifications.message import Attachment, Fate, Report
from notifications.models import (
    Attempt,
    DeadLetter,
    Hold,
    Notification,
    PushSubscription,
    Receipt,
    RegisteredTemplate,
    State,
    Tally,
    Task,
)
from notifications.muting import muted
from notifications.retries import RetryPolicy
from notifications.tasks import set_progress, task
from notifications.testing import whatsapp_server
from notifications.testing.smtp_server import Rule, SmtpServer
from notifications.testing.twilio_server import TwilioServer
from notifications.testing.whatsapp_server import WhatsAppServer
from notifications.tokens import make_token
from orders.catalogue import load_customers, load_products, order_something
from orders.models import Order, User
from orders.notifications import (
    OrderStatusUpdate,
    PasswordReset,
    PaymentReceipt,
    Welcome,
)
from orders.whatsapp import TEMPLATES

ORDERS = 12
NOT_ON_WHATSAPP = "+12025550104"
REFUSED = "customer3@example.com"
GREYLISTED = "customer6@example.com"
KINDS = ("order_confirmation", "order_status_update", "payment_receipt", "welcome")
DICE = random.Random(7)


@task(name="shop.documents.write_invoice", retry=RetryPolicy(retries=0))
def write_invoice(order_id: int) -> None:
    raise ValueError(f"order {order_id} has no billing address")


@task(name="shop.stock.load", retry=RetryPolicy(retries=3, base=600))
def load_stock(file: str) -> dict[str, int]:
    if file.endswith("broken.csv"):
        raise OSError("line 712: no such product")
    return {"lines": 1240, "changed": 87}


@task(name="shop.catalogue.index", atomic=False)
def index_catalogue() -> None:
    set_progress(40)


WORKERS = {
    "web1.4711.91f0c2d7": ["email", "whatsapp", "sms", "push", "default"],
    "web2.1832.5be01a44": ["documents", "default"],
}

Pages = dict[str, Any]  # rows by what they are called


@contextmanager
def services() -> Iterator[None]:
    """Providers for every channel, and settings that use them."""
    public, private = make_keys()
    with ExitStack() as stack:
        mail = stack.enter_context(
            SmtpServer(
                rules=[
                    Rule("RCPT", "550 5.1.1 no such user here", match=REFUSED),
                    Rule("RCPT", "451 4.7.1 greylisted, come back later", match=GREYLISTED),
                ]
            )
        )
        meta = stack.enter_context(
            WhatsAppServer(
                templates=TEMPLATES,
                answers=[whatsapp_server.Answer(code=131026, match=NOT_ON_WHATSAPP)],
            )
        )
        twilio = stack.enter_context(TwilioServer())
        channels = ("email", "whatsapp", "sms", "push")
        names = (*channels, "default", "documents", "maintenance")
        stack.enter_context(
            override_settings(
                EMAIL_HOST=mail.host,
                EMAIL_PORT=mail.port,
                RQ_QUEUES={name: {"URL": os.environ["REDIS_URL"]} for name in names},
                NOTIFICATIONS={
                    **settings.NOTIFICATIONS,
                    "RECIPIENTS": "*",
                    "TASK_QUEUES": ["default", "documents"],
                    "CHANNELS": {
                        "email": {"PROVIDERS": ["smtp"], "RATE": "10/s"},
                        "whatsapp": {"RATE": "5/s"},
                        "sms": {"RATE": "5/s"},
                        "push": {},
                        "in_app": {},
                    },
                    "PROVIDERS": {
                        "whatsapp_cloud": {
                            "BACKEND": "notifications.providers.whatsapp_cloud.WhatsAppCloud",
                            "OPTIONS": meta.options,
                        },
                        "twilio": {
                            "BACKEND": "notifications.providers.twilio.Twilio",
                            "OPTIONS": {**twilio.options, "FROM": "+12025550199"},
                        },
                        "webpush": {
                            "BACKEND": "notifications.providers.webpush.WebPush",
                            "OPTIONS": {
                                "PUBLIC_KEY": public,
                                "PRIVATE_KEY": private,
                                "CONTACT": "mailto:shop@example.com",
                            },
                        },
                    },
                },
            )
        )
        holds.forget()
        whatsapp_registry.forget()
        yield
    holds.forget()
    whatsapp_registry.forget()


def build(boss: User) -> Pages:
    """Fill an empty database; the rows that have pages of interest."""
    with muted():
        mia = User.objects.create_superuser("mia", "mia@example.com", first_name="Mia")
    products, customers = load_products(), load_customers(ORDERS)
    _write_history(customers)
    operations.synchronise(by=mia)
    serve("default")
    RegisteredTemplate.objects.filter(name="payment_receipt", language="de").update(status="PAUSED")
    orders = [order_something(customer, products, dice=DICE) for customer in customers]
    serve("default", "email", "whatsapp", "sms")
    for order in orders[:5]:
        order.status = Order.Status.SHIPPED
        order.save()
    serve("default", "email", "whatsapp", "sms")
    rows = {**_messages(customers, orders, mia), **_tasks(mia)}
    _hold_some(mia)
    _spread_over_hours()
    rows |= {
        "waiting": rows["held"],
        "hold": Hold.objects.filter(lifted_at=None).latest("pk"),
        "suppression": operations.suppress("email", "old.address@example.org", by=mia),
        "template": RegisteredTemplate.objects.filter(name="payment_receipt").earliest("pk"),
        "token": make_token(boss, name="deploy checks", lasts=timedelta(days=90), by=boss)[0],
        "order": orders[0],
    }
    operations.suppress("sms", "+12025550166", note="asked by phone", by=boss)
    return rows


def beat() -> None:
    """The workers and their clock are alive."""
    health.beat("web1:4711", list(WORKERS["web1.4711.91f0c2d7"]))
    for name in WORKERS:
        quick_redis("email").hset(f"rq:worker:{name}", "last_heartbeat", utcformat(now()))


def serve(*queues: str) -> None:
    for queue in queues:
        jobs.serve(queue)


@contextmanager
def workers() -> Iterator[None]:
    """Two that Redis knows: one is busy; nobody serves `maintenance`."""
    redis = quick_redis("email")
    known = []
    for name, served in WORKERS.items():
        worker = Worker(served, connection=redis, name=name)
        worker.register_birth()
        worker.set_state("busy" if name.startswith("web1") else "idle")
        redis.hset(worker.key, "hostname", name.split(".", 1)[0])
        known.append(worker)
    yield
    for worker in known:
        worker.register_death()
        redis.delete(worker.key)


# -- messages -------------------------------------------------------------------------------------


def _messages(customers: list[User], orders: list[Order], mia: User) -> Pages:
    """One of every way to stand."""
    mails = {row.to: row for row in _of("email", "order_confirmation")}
    _report(mails["customer1@example.com"], Fate.DELIVERED, Fate.READ)
    _report(mails["customer2@example.com"], Fate.DEFERRED, Fate.BOUNCED)
    _report(mails["customer5@example.com"], Fate.DELIVERED, Fate.COMPLAINED)
    for row in _of("whatsapp", "order_confirmation"):
        _report(row, Fate.DELIVERED, *([Fate.READ] if row.pk % 2 else []))
    for row in _of("sms"):
        _report(row, Fate.DELIVERED)
    rows: Pages = {
        "sent": mails["customer1@example.com"],
        "dead_row": mails[REFUSED],
        "dead": DeadLetter.objects.filter(notification=mails[REFUSED]).get(),
        "retrying": mails[GREYLISTED],
        "bounced": mails["customer2@example.com"],
        "complained": mails["customer5@example.com"],
        "whatsapp": _of("whatsapp", "order_confirmation", to__gt="").filter(state="read").first(),
        "fallen": _of("whatsapp", to=NOT_ON_WHATSAPP).first(),
        "sms": _of("sms").first(),
        "in_app": _of("in_app").first(),
    }
    operations.suppress("email", "customer8@example.com", note="asked by phone", by=mia)
    rows["suppressed"] = _ask(PaymentReceipt, orders[7])
    rows["cancelled"] = _ask(PaymentReceipt, orders[8])
    operations.cancel(rows["cancelled"], by=mia)
    rows["expired"] = _ask(OrderStatusUpdate, orders[9], status="shipped")
    Notification.objects.filter(pk=rows["expired"].pk).update(expires_at=Now() - timedelta(hours=1))
    rows["unknown"] = _ask(PaymentReceipt, orders[10])
    rows["secret"] = _ask_user(PasswordReset, customers[3])
    rows["erased"] = _ask_user(Welcome, customers[11])
    _write_to_the_press(orders[2])
    serve("email")
    # Its content stays: it waits.
    rows["no_kind"] = _write_to_the_press(orders[2], delay=timedelta(hours=3))
    rows["again"] = operations.resend(rows["bounced"], by=mia)
    serve("email")
    Notification.objects.filter(pk=rows["unknown"].pk).update(
        state=State.UNKNOWN, reason="connection lost after the mail was handed over"
    )
    Attempt.objects.filter(notification=rows["unknown"]).update(
        outcome="unknown", code="", text="connection lost after the mail was handed over"
    )
    rows["scheduled"] = _ask(OrderStatusUpdate, orders[4], status="delivered", delay=9_000)
    rows["push"] = _push(customers[1], orders[1])
    rows["under_way"] = _ask(PaymentReceipt, orders[6])
    Notification.objects.filter(pk=rows["under_way"].pk).update(
        token=uuid4(), started=True, due_at=Now() + timedelta(hours=1)
    )
    rows["held"] = _ask(OrderStatusUpdate, orders[5], channels=["sms"], status="shipped")
    Notification.objects.filter(pk=rows["erased"].pk).update(
        erased_at=Now(), to="", context={}, user=None, about_id="", about_type=""
    )
    _kill(orders)
    for row in rows.values():
        row.refresh_from_db()
    return rows


def _of(channel: str, kind: str = "", **more: Any) -> Any:
    """Today's messages about orders."""
    rows = Notification.objects.filter(channel=channel, **more).exclude(about_id="")
    return rows.filter(kind=kind) if kind else rows


def _ask(kind: Any, order: Order, *, channels: Any = ("email",), **options: Any) -> Notification:
    facts = {"status": options.pop("status")} if "status" in options else {}
    with transaction.atomic():
        return notify(
            kind, to=order.customer, context={"order_id": order.pk, **facts}, about=order,
            channels=list(channels), **options,
        )[0]  # fmt: skip


def _ask_user(kind: Any, user: User) -> Notification:
    with transaction.atomic():
        return notify(kind, to=user, context={"user_id": user.pk}, channels=["email"])[0]


def _write_to_the_press(order: Order, **options: Any) -> Notification:
    """A mail without a kind."""
    with transaction.atomic():
        return send_email(
            to="press@example.org",
            subject="Your question about our teas",
            text="Dear Sir or Madam,\n\nour price list is attached.\n\nLeaf & Kettle",
            html="<p>Dear Sir or Madam,</p><p>our <b>price list</b> is attached.</p>",
            attachments=[Attachment("price-list.pdf", b"%PDF" * 900, "application/pdf")],
            reply_to=["press@example.com"],
            about=order,
            **options,
        )[0]


def _report(row: Notification, *fates: Fate) -> None:
    attempt = row.attempt_set.latest("pk")
    told = {
        Fate.BOUNCED: ("5.1.1", "mailbox unavailable"),
        Fate.DEFERRED: ("4.2.2", "mailbox full"),
    }
    receipts.take(
        attempt.provider,
        [
            Report(
                fate, attempt.message_id, f"{row.pk}-{fate}",
                at=timezone.now() + timedelta(seconds=60 * number), notification_id=row.pk,
                code=told.get(fate, ("", ""))[0], text=told.get(fate, ("", ""))[1],
            )
            for number, fate in enumerate(fates, 1)
        ],
    )  # fmt: skip


def _kill(orders: list[Order]) -> None:
    """More dead letters, of one more error."""
    _ask(OrderStatusUpdate, orders[6], retries=0)  # without its status: no template can be made
    serve("email")
    for order in orders[:4]:
        row = _ask(PaymentReceipt, order)
        Notification.objects.filter(pk=row.pk).update(to=REFUSED)
    serve("email")


def _push(user: User, order: Order) -> Notification:
    keys = {"endpoint": "https://fcm.googleapis.com/x", "p256dh": "B" * 87, "auth": "A" * 22}
    browser = PushSubscription.objects.create(
        user=user,
        digest="d",
        host="fcm.googleapis.com",
        key=public_key(),
        sealed=contents.seal(keys),
    )
    row = _ask(OrderStatusUpdate, order, channels=["push"], status="shipped")
    Notification.objects.filter(pk=row.pk).update(to=browser.address, state=State.SENT)
    return row


# -- tasks ----------------------------------------------------------------------------------------


def _tasks(mia: User) -> Pages:
    with transaction.atomic():
        failed = [write_invoice.enqueue(order_id=number) for number in (1017, 1018)]
        retried = load_stock.enqueue(file="2026-03-14-broken.csv")
        load_stock.enqueue(file="2026-03-14.csv")
    serve("default")
    with transaction.atomic():
        running = index_catalogue.enqueue()
    Task.objects.filter(pk=running.pk).update(
        progress=40, token=uuid4(), started=True, due_at=Now() + timedelta(hours=1)
    )
    few = bulk.freeze_letters(match={"code": "550", "name": "payment_receipt"})
    done = bulk.start(Verb.RETRY, few, by=mia)
    serve("default", "email")
    every = bulk.freeze_letters(match={"code": "550"})
    on = bulk.start(Verb.RETRY, every, canary=2, by=mia)
    Task.objects.filter(pk=on.pk).update(
        progress=60, result={"done": 3, "of": every.count}, due_at=Now() + timedelta(hours=1)
    )
    rows: Pages = {
        "task": failed[0], "due": retried, "running": running, "bulk_done": done, "bulk": on,
        "dead_task": DeadLetter.objects.get(task=failed[0]),
    }  # fmt: skip
    for row in rows.values():
        row.refresh_from_db()
    return rows


def _hold_some(mia: User) -> None:
    operations.pause("documents", reason="no paper in the printer", duration=timedelta(hours=2),
                     by=mia)  # fmt: skip
    operations.pause("sms", reason="Twilio's invoice is being settled", by=mia)
    holds.hold("provider", "whatsapp_cloud", reason="190 the token has expired", cause="provider")
    operations.pause("email", reason="the template is wrong", by=mia)
    operations.resume("email", by=mia)


# -- the last day and the last month ------------------------------------------------------------


def _write_history(customers: list[User]) -> None:
    today = timezone.now()
    rows = [_old(today - timedelta(hours=hours), customers) for hours in _moments()]
    Notification.objects.bulk_create(sorted(rows, key=lambda row: row.created_at))
    Tally.objects.bulk_create(
        Tally(
            since=(today - timedelta(hours=hours)).replace(minute=0, second=0, microsecond=0),
            queue=queue, name=KINDS[0], provider=queue, what=what, count=count,
        )
        for hours in range(2, 30 * 24)
        for queue in ("email", "whatsapp", "sms")
        for what, count in (
            ("accepted", 40 + int(30 * _tide(hours))),
            ("dead", hours % 4 // 3 if queue == "email" else 0),
        )
    )  # fmt: skip


def _moments() -> Iterator[float]:
    """Hours ago: many by day and few by night, for thirty days."""
    for hour in range(1, 30 * 24):
        few = 24 if hour < 24 else 1
        for _ in range(int(few * _tide(hour)) + (hour % 3 == 0)):
            yield hour + DICE.random()


def _tide(hours: float) -> float:
    return 1 + math.sin(hours / 24 * 2 * math.pi)


def _old(at: datetime, customers: list[User]) -> Notification:
    channel = DICE.choices(("email", "whatsapp", "sms", "in_app"), (6, 4, 1, 3))[0]
    states: Mapping[str, int] = {
        State.SENT: 12, State.DELIVERED: 30, State.READ: 40, State.DEAD: 2, State.BOUNCED: 1,
        State.EXPIRED: 1, State.SUPPRESSED: 2,
    }  # fmt: skip
    state = (
        State.READ if channel == "in_app" else DICE.choices(list(states), list(states.values()))[0]
    )
    user = DICE.choice(customers)
    return Notification(
        kind=DICE.choice(KINDS), channel=channel, queue=channel, user=user, state=state,
        to={"email": user.email, "in_app": str(user.pk)}.get(channel, user.phone),
        created_at=at, due_at=at, wanted_at=at, settled_at=at + timedelta(seconds=2),
        attempts=1, context={},
    )  # fmt: skip


def _spread_over_hours() -> None:
    """What was made in a few seconds happened over the last two hours, in the same order."""
    for model, apart in ((Notification, 60), (Task, 90)):
        fresh = list(
            model.objects.filter(created_at__gt=Now() - timedelta(minutes=10)).order_by("-pk")
        )
        for number, row in enumerate(fresh):
            back = timedelta(seconds=apart * number + 20)
            model.objects.filter(pk=row.pk).update(
                created_at=F("created_at") - back, settled_at=F("settled_at") - back
            )
            links = {"notification" if model is Notification else "task": row}
            Attempt.objects.filter(**links).update(created_at=F("created_at") - back)
            DeadLetter.objects.filter(**links).update(created_at=F("created_at") - back)
            if model is Notification:
                Receipt.objects.filter(notification=row).update(
                    at=F("at") - back, received_at=F("received_at") - back
                )
            LogEntry.objects.filter(
                content_type__model=model._meta.model_name, object_id=str(row.pk)
            ).update(action_time=F("action_time") - back)
