"""What the shop sells, and customers for demos, load and fault tests.

All of them live at example.com, which belongs to nobody (RFC 2606).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal

from django.utils.text import slugify

from notifications.muting import muted
from orders.checkout import place_order
from orders.models import Language, Order, Product, User

PRODUCTS: Sequence[tuple[str, str, str, str]] = (
    ("Darjeeling First Flush", "12.90", "tin-green", "Spring harvest, bright and floral. 100 g."),
    ("Assam Breakfast", "8.50", "tin-red", "Malty and strong, made for milk. 100 g."),
    ("Sencha", "10.40", "tin-teal", "Steamed green tea, fresh as cut grass. 100 g."),
    ("Earl Grey", "8.90", "tin-blue", "Black tea with bergamot from Calabria. 100 g."),
    ("Rooibos Vanilla", "7.20", "tin-amber", "Round and warm, without caffeine. 100 g."),
    ("Stoneware Teapot", "34.00", "teapot", "Holds 1.1 litres, pours without a drip."),
    ("Glass Kettle", "59.00", "kettle", "Shows you the water before it boils. 1.5 litres."),
    ("Pair of Tea Bowls", "22.50", "bowls", "Glazed by hand, no two alike."),
)

_FIRST_NAMES = ("Ada", "Emil", "Grace", "Jonas", "Lena", "Max", "Nora", "Oskar", "Søren", "Zoë")
_LAST_NAMES = ("Beispiel", "Example", "Muster", "Sample", "Specimen", "Tester")
_STREETS = ("Sample Street", "Musterweg", "Example Lane", "Beispielallee")
_TOWNS = ("10115 Berlin", "20095 Hamburg", "50667 Köln", "80331 München")


def load_products() -> list[Product]:
    """The shop's products, made where they are missing."""
    for name, price, picture, description in PRODUCTS:
        Product.objects.get_or_create(
            slug=slugify(name),
            defaults={
                "name": name,
                "price": Decimal(price),
                "picture": f"orders/products/{picture}.svg",
                "description": description,
            },
        )
    return list(Product.objects.filter(slug__in=[slugify(each[0]) for each in PRODUCTS]))


def load_customers(count: int) -> list[User]:
    """So many customers, made where they are missing. They are old friends: nobody is welcomed."""
    with muted():
        return [_customer(number) for number in range(1, count + 1)]


def order_something(customer: User, products: Sequence[Product], *, dice: random.Random) -> Order:
    """Place an order, like a made-up customer might, through the code of the storefront."""
    chosen = dice.sample(list(products), k=dice.randint(1, min(3, len(products))))
    return place_order(
        customer,
        basket={product: dice.randint(1, 3) for product in chosen},
        payment=dice.choice(Order.Payment.values),
        address=_address_of(customer),
    )


def _address_of(customer: User) -> str:
    street = _STREETS[customer.pk % len(_STREETS)]
    town = _TOWNS[customer.pk % len(_TOWNS)]
    return f"{customer.get_full_name()}\n{street} {customer.pk % 90 + 1}\n{town}"


def _customer(number: int) -> User:
    first = _FIRST_NAMES[number % len(_FIRST_NAMES)]
    last = _LAST_NAMES[number % len(_LAST_NAMES)]
    email = f"customer{number}@example.com"
    user, _made = User.objects.get_or_create(
        username=email,
        defaults={
            "email": email,
            "first_name": first,
            "last_name": last,
            "phone": _phone(number),
            "language": Language.values[number % len(Language.values)],
        },
    )
    return user


def _phone(number: int) -> str:
    """One of the hundred that belong to nobody (555-0100 to 555-0199, ATIS-0300115); later
    customers have none."""
    return f"+12025550{100 + number}" if number < 100 else ""
