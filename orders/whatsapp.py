"""The words of the shop's WhatsApp templates, as they are submitted to Meta for approval.

`manage.py demo` registers them at its local server. What fills their placeholders is said by the
kinds (`orders.notifications`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from notifications.testing.whatsapp_server import Template

SHOP = "https://shop.example.com"  # where the buttons lead: the origin in FRONTEND_URL


def _button(text: str) -> list[Mapping[str, str]]:
    return [{"type": "URL", "text": text, "url": f"{SHOP}/orders/{{{{1}}}}/"}]


_COPY = "https://www.whatsapp.com/otp/code/?otp_type=COPY_CODE&code=otp{{1}}"

_english = partial(Template, language="en", footer="Leaf & Kettle", buttons=_button("Your order"))
_german = partial(
    Template, language="de", footer="Leaf & Kettle", buttons=_button("Zur Bestellung")
)

TEMPLATES = [
    _english(
        "order_confirmation",
        body="Hello {{1}}, thank you for your order {{2}} of {{3}}. We pack it as soon as your "
        "payment is here.",
    ),
    _german(
        "order_confirmation",
        body="Guten Tag {{1}}, danke für Ihre Bestellung {{2}} über {{3}}. Wir packen sie, "
        "sobald Ihre Zahlung da ist.",
    ),
    _english(
        "order_confirmation_cash",
        body="Hello {{1}}, thank you for your order {{2}}. You pay {{3}} in cash when it arrives.",
    ),
    _german(
        "order_confirmation_cash",
        body="Guten Tag {{1}}, danke für Ihre Bestellung {{2}}. Sie zahlen {{3}} bar, wenn sie "
        "ankommt.",
    ),
    _english(
        "order_status_update",
        body="Hello {{1}}, there is news of your order {{2}}: {{3}}.",
    ),
    _german(
        "order_status_update",
        body="Guten Tag {{1}}, es gibt Neues zu Ihrer Bestellung {{2}}: {{3}}.",
    ),
    _english(
        "order_at_the_door_cash",
        body="Hello {{1}}, your order {{2}} arrives today. Please have {{3}} ready in cash.",
    ),
    _german(
        "order_at_the_door_cash",
        body="Guten Tag {{1}}, Ihre Bestellung {{2}} kommt heute. Bitte halten Sie {{3}} in bar "
        "bereit.",
    ),
    _english(
        "payment_receipt",
        named=True,
        header="Receipt for {{number}}",
        body="Hello {{name}}, we have received {{total}} for your order {{number}}. Thank you!",
    ),
    _german(
        "payment_receipt",
        named=True,
        header="Quittung für {{number}}",
        body="Guten Tag {{name}}, wir haben {{total}} für Ihre Bestellung {{number}} erhalten. "
        "Danke!",
    ),
    _english(
        "verification_code",
        category="AUTHENTICATION",
        footer="This code expires in 10 minutes.",
        body="*{{1}}* is your verification code. For your security, do not share this code.",
        buttons=[{"type": "URL", "text": "Copy code", "url": _COPY}],
    ),
    _german(
        "verification_code",
        category="AUTHENTICATION",
        footer="Dieser Code ist 10 Minuten lang gültig.",
        body="*{{1}}* ist dein Verifizierungscode. Teile diesen Code aus Sicherheitsgründen mit "
        "niemandem.",
        buttons=[{"type": "URL", "text": "Code kopieren", "url": _COPY}],
    ),
]
