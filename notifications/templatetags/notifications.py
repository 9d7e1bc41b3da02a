"""Tags of templates.

Absolute links for messages, as workers know no request to take the host from:

    {% load notifications %}
    <a href="{% absolute_url 'order' number %}">…</a>
    <img src="{{ '/static/logo.png'|absolute }}">

Both put NOTIFICATIONS["FRONTEND_URL"] in front. Templates also find it as `frontend_url`.

The bell of a page, with the number of unread messages and the way to the inbox:

    {% notifications_bell %}

A switch for messages in this browser:

    {% notifications_push %}
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

from django import template
from django.template import Context
from django.urls import reverse

from notifications import bell, conf, inbox
from notifications.channels.push import public_key

register = template.Library()


@register.simple_tag
def absolute_url(view: str, *args: Any, **kwargs: Any) -> str:
    """The address of a view, as `{% url %}` finds it, with its origin."""
    return absolute(reverse(view, args=args, kwargs=kwargs))


@register.filter
def absolute(path: str) -> str:
    """A path with its origin; what is absolute already stays so."""
    return urljoin(f"{str(conf.get('FRONTEND_URL')).rstrip('/')}/", str(path))


@register.inclusion_tag("notifications/bell.html", takes_context=True)
def notifications_bell(context: Context) -> dict[str, Any]:
    """A link to the inbox for who is logged in, nothing for others. Takes one query.

    The urls of `notifications.bell` must be mounted.
    """
    user = getattr(context.get("request"), "user", None)
    if user is None or not user.is_authenticated:
        return {"shown": False}
    unread = inbox.unread_count(user)
    return {"shown": True, "short": bell.short(unread), "label": bell.label(unread)}


@register.inclusion_tag("notifications/push.html", takes_context=True)
def notifications_push(context: Context) -> dict[str, Any]:
    """A switch for who is logged in, where the project has the channel push; nothing for others.

    The urls of `notifications.browsers` must be mounted.
    """
    user = getattr(context.get("request"), "user", None)
    key = public_key()
    if user is None or not user.is_authenticated or not key:
        return {"shown": False}
    return {"shown": True, "key": key, "csrf_token": context.get("csrf_token")}
