"""The basket: product ids and quantities in the visitor's session."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from django.contrib.sessions.backends.base import SessionBase

from orders.checkout import MOST_PER_LINE, shipping_for
from orders.models import Product

KEY = "basket"


class Basket:
    """What one visitor wants to buy."""

    def __init__(self, session: SessionBase) -> None:
        self._session = session
        counts: Mapping[str, int] = session.get(KEY, {})
        found = Product.objects.filter(available=True).in_bulk([int(each) for each in counts])
        self.lines: dict[Product, int] = {
            product: counts[str(product.pk)] for product in found.values()
        }

    def __len__(self) -> int:
        return sum(self.lines.values())

    @property
    def goods(self) -> Decimal:
        """What the products cost together."""
        return sum((product.price * count for product, count in self.lines.items()), Decimal(0))

    @property
    def shipping(self) -> Decimal:
        """What sending them costs."""
        return shipping_for(self.goods)

    @property
    def total(self) -> Decimal:
        """What is to be paid."""
        return self.goods + self.shipping

    @property
    def currency(self) -> str:
        """The currency of the basket, which must not be empty."""
        return next(iter(self.lines)).currency

    def put(self, product: Product, *, count: int) -> None:
        """Have `count` of a product; 0 takes it out."""
        if count > 0:
            self.lines[product] = min(count, MOST_PER_LINE)
        else:
            self.lines.pop(product, None)
        self._session[KEY] = {str(product.pk): count for product, count in self.lines.items()}

    def add(self, product: Product) -> None:
        """One more of a product."""
        self.put(product, count=self.lines.get(product, 0) + 1)

    def clear(self) -> None:
        """Forget everything."""
        self.lines = {}
        self._session.pop(KEY, None)
