"""Place an order: the one way in, for the storefront, `place_orders` and the demo."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from orders.models import Order, OrderItem, Product, User

SHIPPING = Decimal("3.90")
FREE_SHIPPING_FROM = Decimal("40.00")
MOST_PER_LINE = 99


def place_order(
    customer: User, *, basket: Mapping[Product, int], payment: str, address: str
) -> Order:
    """Write the order with its items in one transaction; whoever confirms it hears of it then.

    `basket` holds the wanted products and their quantities, all in one currency. Raises
    ValidationError for a basket that cannot be ordered.
    """
    _check(basket)
    goods = sum((product.price * count for product, count in basket.items()), Decimal(0))
    with transaction.atomic():
        order = Order.objects.create(
            customer=customer,
            payment=Order.Payment(payment),
            currency=next(iter(basket)).currency,
            shipping=shipping_for(goods),
            address=address,
        )
        OrderItem.objects.bulk_create(
            OrderItem(
                order=order,
                product=product,
                name=product.name,
                unit_price=product.price,
                quantity=count,
            )
            for product, count in basket.items()
        )
    return order


def shipping_for(goods: Decimal) -> Decimal:
    """The shipping costs of goods worth so much."""
    return Decimal(0) if goods >= FREE_SHIPPING_FROM else SHIPPING


def _check(basket: Mapping[Product, int]) -> None:
    if not basket:
        raise ValidationError(_("The basket is empty."))
    if len({product.currency for product in basket}) > 1:
        raise ValidationError(_("One order can only have one currency."))
    for product, count in basket.items():
        if not product.available:
            raise ValidationError(_("%(name)s is sold out.") % {"name": product.name})
        if not 1 <= count <= MOST_PER_LINE:
            raise ValidationError(
                _("Of %(name)s you can order from 1 to %(most)s.")
                % {"name": product.name, "most": MOST_PER_LINE}
            )
