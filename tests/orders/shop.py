"""A small shop for the tests, and what its customers were told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.utils.text import slugify

from notifications import conf, tasks
from notifications.kinds import get_kind
from notifications.message import Email
from notifications.models import Notification
from notifications.muting import muted
from orders.checkout import place_order
from orders.models import Order, Product, User

PASSWORD = "correct horse 9"


def make_customer(name: str = "ada", **fields: Any) -> User:
    """A customer whom nobody welcomes."""
    email = fields.pop("email", f"{name}@example.com")
    with muted():
        return User.objects.create_user(
            email or name, email, fields.pop("password", None), first_name=name.title(), **fields
        )


def make_product(name: str = "Sencha", price: str = "10.40", **fields: Any) -> Product:
    """Something to buy; the same one for the same name."""
    values = {"name": name, "price": Decimal(price), **fields}
    return Product.objects.get_or_create(slug=slugify(name), defaults=values)[0]


def make_order(customer: User | None = None, **fields: Any) -> Order:
    """An order that nobody heard of."""
    with muted():
        order = place_order(
            customer or make_customer(),
            basket={make_product(): 2},
            payment=fields.pop("payment", Order.Payment.PREPAID),
            address="Ada Example\n1 Sample Street\n10115 Berlin",
        )
        for name, value in fields.items():
            setattr(order, name, value)
        order.save()
    return order


def run_handlers() -> list[str]:
    """Run the waiting tasks; the kinds of all mails asked for, in their order."""
    while tasks.run_due("default"):
        pass
    mails = Notification.objects.filter(channel="email")
    return list(mails.order_by("pk").values_list("kind", flat=True))


def compose(row: Notification) -> Email:
    """The mail of a row, as a worker would compose it."""
    kind = get_kind(row.kind)
    [context] = kind.prepare([row])
    mail = conf.channel("email").channel.compose(row, kind, context)
    assert isinstance(mail, Email)
    return mail


def compose_last() -> Email:
    """The newest mail."""
    return compose(Notification.objects.filter(channel="email").latest("pk"))
