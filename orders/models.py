"""Customers, products and orders.

Saving an order or a user publishes what happened (`orders.signals`), in one transaction with the
row itself. `QuerySet.update`, `bulk_create` and `bulk_update` send no signals in Django and
therefore publish nothing here: use them for repairs that nobody should hear of.
"""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models, router, transaction
from django.db.models.functions import Now
from django.urls import reverse
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _

_NUMBER_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # nothing that looks like something else


def new_order_number() -> str:
    """A number that tells nobody how many orders the shop has: "7K2M-Q9XA"."""
    letters = [secrets.choice(_NUMBER_ALPHABET) for _each in range(8)]
    return f"{''.join(letters[:4])}-{''.join(letters[4:])}"


def new_nonce() -> str:
    """Random text for a verification request."""
    return secrets.token_hex(16)


class Currency(models.TextChoices):
    """What the shop is paid in. All of them have two decimals."""

    EUR = "EUR", "€"
    USD = "USD", "$"
    GBP = "GBP", "£"
    CHF = "CHF", "CHF"


class Language(models.TextChoices):
    """What the shop speaks."""

    ENGLISH = "en", _("English")
    GERMAN = "de", _("German")


class SavedWithItsEvents(models.Model):
    """`save` in one transaction with what its signal receivers write.

    Django sends post_save outside any transaction of its own; a crash between the two would keep
    the row and lose its event.
    """

    class Meta:
        abstract = True

    def save(self, *args: Any, using: str | None = None, **kwargs: Any) -> None:
        """Save the row and publish what happened, or neither."""
        using = using or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            super().save(*args, using=using, **kwargs)


class User(SavedWithItsEvents, AbstractUser):
    """A customer, or one of the staff."""

    phone = models.CharField(
        _("phone"),
        max_length=16,
        blank=True,
        default="",
        validators=[RegexValidator(r"^\+[1-9][0-9]{6,14}$", _("Write it like +491701234567."))],
        help_text=_("international, like +491701234567"),
    )
    language = models.CharField(
        _("language"),
        max_length=8,
        choices=Language.choices,
        blank=True,
        default="",
        help_text=_("of messages; empty for the shop's own"),
    )
    email_verified_at = models.DateTimeField(_("email verified at"), null=True, blank=True)
    phone_verified_at = models.DateTimeField(_("phone verified at"), null=True, blank=True)

    class Meta(AbstractUser.Meta):
        swappable = "AUTH_USER_MODEL"

    def __str__(self) -> str:
        return self.get_username()

    @property
    def calling_name(self) -> str:
        """How messages address the user."""
        return self.first_name or self.get_full_name() or self.get_username()


class VerificationRequest(models.Model):
    """A user asked for a code that proves an address. The code itself is stored nowhere."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="verification")
    nonce = models.CharField(max_length=32, default=new_nonce, editable=False)
    channel = models.CharField(_("channel"), max_length=32, default="email")
    address = models.CharField(
        _("address"), max_length=320, help_text=_("on that channel: what the code proves")
    )
    asked_at = models.DateTimeField(_("asked at"), db_default=Now())
    expires_at = models.DateTimeField(_("expires at"))
    tries = models.PositiveSmallIntegerField(_("wrong tries"), default=0)

    class Meta:
        verbose_name = _("verification request")
        verbose_name_plural = _("verification requests")

    def __str__(self) -> str:
        return f"verification of user {self.user_id}"

    @property
    def code(self) -> str:
        """The six digits, derived from the row with the secret key."""
        value = f"{self.user_id}:{self.address}:{self.nonce}"
        digest = salted_hmac("orders.verification", value, algorithm="sha256").digest()
        return f"{int.from_bytes(digest) % 1_000_000:06}"


class Product(models.Model):
    """Something to buy."""

    slug = models.SlugField(_("slug"), unique=True)
    name = models.CharField(_("name"), max_length=100)
    description = models.CharField(_("description"), max_length=300, blank=True)
    price = models.DecimalField(
        _("price"), max_digits=10, decimal_places=2, validators=[MinValueValidator(Decimal(0))]
    )
    currency = models.CharField(
        _("currency"), max_length=3, choices=Currency.choices, default=Currency.EUR
    )
    picture = models.CharField(
        _("picture"), max_length=100, blank=True, help_text=_("a static file, orders/products/…")
    )
    available = models.BooleanField(_("available"), default=True)

    class Meta:
        verbose_name = _("product")
        verbose_name_plural = _("products")
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class Order(SavedWithItsEvents):
    """What a customer bought. Its prices are those of the day it was placed."""

    class Status(models.TextChoices):
        """How far it is."""

        PLACED = "placed", _("placed")
        PAID = "paid", _("paid")
        SHIPPED = "shipped", _("shipped")
        OUT_FOR_DELIVERY = "out_for_delivery", _("out for delivery")
        DELIVERED = "delivered", _("delivered")
        CANCELLED = "cancelled", _("cancelled")
        REFUNDED = "refunded", _("refunded")

    class Payment(models.TextChoices):
        """How it is paid for."""

        CASH_ON_DELIVERY = "cash_on_delivery", _("cash on delivery")
        PREPAID = "prepaid", _("prepaid")

    number = models.CharField(
        _("number"), max_length=16, unique=True, default=new_order_number, editable=False
    )
    customer = models.ForeignKey(
        User, verbose_name=_("customer"), on_delete=models.PROTECT, related_name="orders"
    )
    status = models.CharField(
        _("status"), max_length=20, choices=Status.choices, default=Status.PLACED
    )
    payment = models.CharField(
        _("payment"), max_length=20, choices=Payment.choices, default=Payment.PREPAID
    )
    currency = models.CharField(
        _("currency"), max_length=3, choices=Currency.choices, default=Currency.EUR
    )
    shipping = models.DecimalField(
        _("shipping costs"),
        max_digits=10,
        decimal_places=2,
        default=Decimal(0),
        validators=[MinValueValidator(Decimal(0))],
    )
    address = models.TextField(_("delivery address"), max_length=500, blank=True)
    tracking_code = models.CharField(_("tracking code"), max_length=64, blank=True)
    created_at = models.DateTimeField(_("placed at"), db_default=Now())

    status_before: str | None = None  # in the database, as of the save under way (orders.signals)

    class Meta:
        verbose_name = _("order")
        verbose_name_plural = _("orders")
        ordering: ClassVar = ["-pk"]

    def __str__(self) -> str:
        return self.number

    def get_absolute_url(self) -> str:
        """The order's page."""
        return reverse("order", args=[self.number])

    @property
    def total(self) -> Decimal:
        """What the customer pays: items and shipping. Prefetch `items` where there are many."""
        return sum((item.total for item in self.items.all()), self.shipping)

    @property
    def paid_in_cash(self) -> bool:
        """Whether the customer pays at the door."""
        return self.payment == self.Payment.CASH_ON_DELIVERY


class OrderItem(models.Model):
    """One line of an order, with the product's name and price as they were."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="items")
    product = models.ForeignKey(
        Product, verbose_name=_("product"), null=True, on_delete=models.SET_NULL, related_name="+"
    )
    name = models.CharField(_("name"), max_length=100, blank=True)
    unit_price = models.DecimalField(
        _("unit price"),
        max_digits=10,
        decimal_places=2,
        blank=True,
        help_text=_("empty: the product's"),
    )
    quantity = models.PositiveSmallIntegerField(
        _("quantity"), default=1, validators=[MinValueValidator(1)]
    )

    class Meta:
        verbose_name = _("item")
        verbose_name_plural = _("items")
        ordering: ClassVar = ["pk"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(quantity__gte=1), name="orders_item_quantity"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.name}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Take over from the product what is not given."""
        if self.product is not None:
            self.name = self.name or self.product.name
            if self.unit_price is None:
                self.unit_price = self.product.price
        super().save(*args, **kwargs)

    def clean(self) -> None:
        """Raise ValidationError for a line that says neither what nor how much."""
        if self.product is None and (not self.name or self.unit_price is None):
            raise ValidationError(_("Choose a product, or give a name and a price."))

    @property
    def total(self) -> Decimal:
        """The price of the line."""
        return self.unit_price * self.quantity
