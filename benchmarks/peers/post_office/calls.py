"""The calls of django-post_office: rendered by the worker, or already by the call."""

from functools import cache

from django.template.loader import get_template
from post_office import mail
from post_office.models import EmailTemplate

from benchmarks.shop import content


def enqueue(number: int) -> None:
    """Queue the confirmation of order `number`, to be rendered when it is sent."""
    _send(number, render_on_delivery=True)


def enqueue_rendered(number: int) -> None:
    """Render the confirmation of order `number` and queue it."""
    _send(number, render_on_delivery=False)


def _send(number: int, *, render_on_delivery: bool) -> None:
    mail.send(
        content.address(number),
        template=_template(),
        context=content.values(number),
        render_on_delivery=render_on_delivery,
    )


@cache
def _template() -> EmailTemplate:
    subject, text, html = (
        get_template(name).template.source for name in (content.SUBJECT, content.TEXT, content.HTML)
    )
    template, _ = EmailTemplate.objects.get_or_create(
        name="order_confirmation",
        language="",
        defaults={"subject": subject, "content": text, "html_content": html},
    )
    return template
