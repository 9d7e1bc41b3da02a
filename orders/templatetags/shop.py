"""Money and products in templates."""

from __future__ import annotations

from decimal import Decimal

from django import template
from django.utils.formats import number_format
from django.utils.translation import get_language

from orders.models import Currency

register = template.Library()

SPACE = "\u00a0"  # does not break: a price is one word


@register.filter
def money(amount: Decimal, currency: str) -> str:
    """The amount with its currency, as the active language writes it: "€12.50", "12,50 €"."""
    number = number_format(amount, decimal_pos=2, use_l10n=True, force_grouping=True)
    sign = Currency(currency).label
    if (get_language() or "en").startswith("en"):
        return f"{sign}{SPACE if sign.isalpha() else ''}{number}"
    return f"{number}{SPACE}{sign}"
