"""Absolute links for templates of messages: workers know no request to take the host from.

    {% load notifications %}
    <a href="{% absolute_url 'order' number %}">…</a>
    <img src="{{ '/static/logo.png'|absolute }}">

Both put NOTIFICATIONS["FRONTEND_URL"] in front. Templates also find it as `frontend_url`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

from django import template
from django.urls import reverse

from notifications import conf

register = template.Library()


@register.simple_tag
def absolute_url(view: str, *args: Any, **kwargs: Any) -> str:
    """The address of a view, as `{% url %}` finds it, with its origin."""
    return absolute(reverse(view, args=args, kwargs=kwargs))


@register.filter
def absolute(path: str) -> str:
    """A path with its origin; what is absolute already stays so."""
    return urljoin(f"{str(conf.get('FRONTEND_URL')).rstrip('/')}/", str(path))
