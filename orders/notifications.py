"""What the shop tells its customers, and when.

The handlers turn events into notifications; the kinds say how those look. What a message shows is
loaded when it is sent, for all messages of a claim at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from notifications.channels.whatsapp import WhatsAppTemplate
from notifications.dispatch import notify
from notifications.events import on
from notifications.kinds import Channels, Fallback, Kind
from notifications.models import Notification, Priority
from orders.links import absolute
from orders.models import Order, User, VerificationRequest

# -- when -----------------------------------------------------------------------------------


@on("order.placed", priority=Priority.HIGH)
def confirm_order(order_id: int) -> None:
    """Confirm a new order."""
    _tell_customer(OrderConfirmation, order_id)


@on("order.status_changed")
def tell_status(order_id: int, before: str, status: str) -> None:
    """Tell the new status; money that came or went has messages of its own."""
    if status not in (Order.Status.PAID, Order.Status.REFUNDED):
        _tell_customer(OrderStatusUpdate, order_id, status=status)


@on("payment.received")
def send_receipt(order_id: int) -> None:
    """Send the receipt for a payment."""
    _tell_customer(PaymentReceipt, order_id)


@on("order.refunded")
def confirm_refund(order_id: int) -> None:
    """Confirm that the money goes back."""
    _tell_customer(RefundConfirmation, order_id)


@on("user.registered", priority=Priority.LOW)
def welcome(user_id: int) -> None:
    """Welcome a new user who has an address."""
    user = User.objects.filter(pk=user_id).exclude(email="").first()
    if user is not None:
        notify(Welcome, to=user, context={"user_id": user.pk})


@on("password_reset.requested", priority=Priority.CRITICAL)
def send_reset_link(user_id: int) -> None:
    """Send the way to a new password."""
    user = User.objects.filter(pk=user_id, is_active=True).exclude(email="").first()
    if user is not None:
        notify(PasswordReset, to=user, context={"user_id": user.pk})


def _tell_customer(kind: type[Kind], order_id: int, **facts: str) -> None:
    order = Order.objects.select_related("customer").filter(pk=order_id).first()
    if order is not None:  # deleted meanwhile
        notify(kind, to=order.customer, context={"order_id": order.pk, **facts}, about=order)


# -- what -----------------------------------------------------------------------------------

# The words are Meta's to approve: orders/whatsapp.py has them.
template = partial(WhatsAppTemplate, languages=("en", "de"), load=("shop",))
TOTAL = "order.total|money:order.currency"


class ShopKind(Kind):
    """What all messages of the shop have in common."""

    @classmethod
    def reply_to(cls, row: Notification) -> tuple[str, ...]:
        """Answers go to people, not to the sending address."""
        return (settings.CONTACT_EMAIL,)


class OrderKind(ShopKind):
    """A message about an order; its context holds `order_id`."""

    channels: ClassVar[Channels] = ("email", "in_app", "push")
    # By telephone in words of their own; who is not on WhatsApp gets a text message.
    by_phone = ("email", Fallback("whatsapp", "sms"), "in_app", "push")

    @classmethod
    def prepare(cls, batch: Sequence[Notification]) -> Iterable[Mapping[str, Any]]:
        """Load the orders of all rows with two queries."""
        orders = (
            Order.objects.select_related("customer")
            .prefetch_related("items")
            .in_bulk([row.context["order_id"] for row in batch])
        )
        return [
            {**_house(), **_describe(orders[row.context["order_id"]]), **row.context}
            for row in batch
        ]

    @classmethod
    def link(cls, row: Notification, context: Mapping[str, Any]) -> str:
        """The order's page."""
        return reverse("order", args=[context["order"]["number"]])

    @classmethod
    def sample(cls) -> Mapping[str, Any]:
        """An order of two things."""
        order = {**_SAMPLE_ORDER, "url": absolute("order", _SAMPLE_ORDER["number"])}
        return {**_house(), "name": "Ada", "order": order}


class OrderConfirmation(OrderKind):
    """An order was placed."""

    name = "order_confirmation"
    channels = OrderKind.by_phone
    priority = Priority.HIGH
    whatsapp = (
        template(
            "order_confirmation_cash",
            when=lambda context: context["order"]["cash"],
            body=("name", "order.number", TOTAL),
            buttons=("order.number",),
        ),
        template(
            "order_confirmation",
            body=("name", "order.number", TOTAL),
            buttons=("order.number",),
        ),
    )


class OrderStatusUpdate(OrderKind):
    """An order went on; the context holds the `status` it reached."""

    name = "order_status_update"
    channels = OrderKind.by_phone
    whatsapp = (
        template(
            "order_at_the_door_cash",
            when=lambda context: (
                context["order"]["cash"] and context["status"] == Order.Status.OUT_FOR_DELIVERY
            ),
            body=("name", "order.number", TOTAL),
            buttons=("order.number",),
        ),
        template(
            "order_status_update",
            body=("name", "order.number", "status_label"),
            buttons=("order.number",),
        ),
    )

    @classmethod
    def prepare(cls, batch: Sequence[Notification]) -> Iterable[Mapping[str, Any]]:
        """The order, and what its status is called."""
        return [_with_label(context) for context in super().prepare(batch)]

    @classmethod
    def sample(cls) -> Mapping[str, Any]:
        """An order on its way."""
        return _with_label({**super().sample(), "status": Order.Status.SHIPPED.value})


class PaymentReceipt(OrderKind):
    """An order was paid."""

    name = "payment_receipt"
    channels = OrderKind.by_phone
    whatsapp = template(
        "payment_receipt",
        header={"number": "order.number"},
        body={"name": "name", "total": TOTAL, "number": "order.number"},
        buttons=("order.number",),
    )


class RefundConfirmation(OrderKind):
    """The money for an order goes back."""

    name = "refund_confirmation"


class UserKind(ShopKind):
    """A message about a user's account; its context holds `user_id`."""

    @classmethod
    def prepare(cls, batch: Sequence[Notification]) -> Iterable[Mapping[str, Any]]:
        """Load the users of all rows at once, and make their secrets."""
        users = User.objects.select_related("verification").in_bulk(
            [row.context["user_id"] for row in batch]
        )
        return [
            {**_house(), **cls.describe(users[row.context["user_id"]]), **row.context}
            for row in batch
        ]

    @classmethod
    def describe(cls, user: User) -> dict[str, Any]:
        """What the templates show of a user."""
        return {"name": user.calling_name}

    @classmethod
    def sample(cls) -> Mapping[str, Any]:
        """Somebody."""
        return {**_house(), "name": "Ada"}


class Welcome(UserKind):
    """Somebody has an account now."""

    name = "welcome"
    priority = Priority.LOW


class VerificationCode(UserKind):
    """Six digits that prove an address, made when they are sent and stored nowhere."""

    name = "verification_code"
    channels = ("email", "whatsapp")  # the one whose address they prove
    priority = Priority.CRITICAL
    whatsapp = template("verification_code", body=("code",), buttons=("code",))
    secret = True
    expires_after = timedelta(minutes=10)

    @classmethod
    def describe(cls, user: User) -> dict[str, Any]:
        """The code of the user's last request. Raises DoesNotExist when it was used already."""
        request: VerificationRequest = user.verification
        return {**super().describe(user), "code": request.code}

    @classmethod
    def sample(cls) -> Mapping[str, Any]:
        """A code that opens nothing."""
        return {**super().sample(), "code": "123456"}


class PasswordReset(UserKind):
    """A link to a new password, made when the mail is sent and stored nowhere."""

    name = "password_reset"
    priority = Priority.CRITICAL
    secret = True
    expires_after = timedelta(hours=1)

    @classmethod
    def describe(cls, user: User) -> dict[str, Any]:
        """The link, good for PASSWORD_RESET_TIMEOUT and one use."""
        uid = urlsafe_base64_encode(force_bytes(user.pk))
        token = default_token_generator.make_token(user)
        link = absolute("password_reset_confirm", uid, token)
        return {**super().describe(user), "link": link, "username": user.get_username()}

    @classmethod
    def sample(cls) -> Mapping[str, Any]:
        """A link that opens nothing."""
        link = absolute("password_reset_confirm", "uid", "token")
        return {**super().sample(), "link": link, "username": "ada@example.com"}


def _house() -> dict[str, Any]:
    return {
        "shop": {
            "name": settings.FROM_NAME,
            "url": absolute("shop"),
            "account_url": absolute("account"),
            "contact": settings.CONTACT_EMAIL,
        }
    }


def _describe(order: Order) -> dict[str, Any]:
    """Plain values for the templates."""
    items = list(order.items.all())
    return {
        "name": order.customer.calling_name,
        "order": {
            "number": order.number,
            "url": absolute("order", order.number),
            "placed_at": order.created_at,
            "cash": order.paid_in_cash,
            "paid": order.status not in (Order.Status.PLACED, Order.Status.CANCELLED),
            "currency": order.currency,
            "lines": [
                {"name": item.name, "quantity": item.quantity, "total": item.total}
                for item in items
            ],
            "goods": sum((item.total for item in items), Decimal(0)),
            "shipping": order.shipping,
            "total": order.total,
            "address": order.address,
            "tracking_code": order.tracking_code,
        },
    }


def _with_label(context: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**context, "status_label": Order.Status(context["status"]).label}


_SAMPLE_ORDER: dict[str, Any] = {
    "number": "7K2M-Q9XA",
    "placed_at": datetime(2026, 3, 14, 9, 26, tzinfo=UTC),
    "cash": False,
    "paid": False,
    "currency": "EUR",
    "lines": [
        {"name": "Darjeeling First Flush", "quantity": 2, "total": Decimal("25.80")},
        {"name": "Stoneware Teapot", "quantity": 1, "total": Decimal("34.00")},
    ],
    "goods": Decimal("59.80"),
    "shipping": Decimal(0),
    "total": Decimal("59.80"),
    "address": "Ada Example\n1 Sample Street\n10115 Berlin",
    "tracking_code": "LK-000-123",
}
