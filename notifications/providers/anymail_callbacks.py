"""Callbacks of Anymail's services, checked and read by Anymail's own webhook views.

Anymail has a view for each service, which finds out whether a request is genuine by whatever the
service offers: a signature, or a name and password in the address ("Securing webhooks" in its
documentation). Under its own URLs such a view believes everybody where nothing of this is set, and
it knows the service but not the provider. Here it is run for one provider, with its OPTIONS before
the ANYMAIL settings, and only if it has something to check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from anymail.exceptions import AnymailError, AnymailWebhookValidationFailure
from anymail.signals import AnymailTrackingEvent, inbound
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIRequest
from django.urls import URLResolver, get_resolver

from notifications.errors import BadCallback, Forged, NoCallbacks, NoCredentials, NotConfigured
from notifications.message import Report
from notifications.providers.anymail_events import asks_for_proof, lets_anybody_in, read_event
from notifications.providers.base import Callback
from notifications.redaction import describe, scrub


def receive(
    callback: Callback, *, service: str, options: Mapping[str, Any]
) -> Sequence[Report] | str:
    """What `Provider.receive` gives and raises, for what Anymail calls `service`."""
    view_class = _find_view(service)
    if view_class is None:
        raise NoCallbacks(f"Anymail reads no callbacks of {service or 'this backend'}.")
    if callback.method != "POST":
        return ""  # some look first whether anybody is there, before they have told their secret
    view = _make_view(view_class, options)
    if view.basic_auth and "authorization" not in callback.headers:
        raise NoCredentials("It names nobody, and WEBHOOK_SECRET is set.")
    request = _Request(callback)
    _check(view, request)
    events = _read(view, request)
    # Mandrill reports at one address what was sent and what was received.
    ours = [event for event in events if isinstance(event, AnymailTrackingEvent)]
    return [report for event in ours for report in read_event(event)]


def open_addresses(service: str) -> list[str]:
    """Where the project has mounted Anymail's own view of `service` and it believes everybody."""
    if not service or not getattr(settings, "ROOT_URLCONF", ""):
        return []
    return [
        address
        for address, view in _views(get_resolver().url_patterns)
        if _is_tracking(view.view_class, service)
        and lets_anybody_in(view.view_class, **view.view_initkwargs)
    ]


def _views(patterns: Sequence[Any], before: str = "/") -> Iterator[tuple[str, Any]]:
    """The class-based views of the project, with the patterns of their addresses."""
    for pattern in patterns:
        address = before + str(pattern.pattern).lstrip("^")
        if isinstance(pattern, URLResolver):
            yield from _views(pattern.url_patterns, address)
        elif hasattr(pattern.callback, "view_class"):
            yield address, pattern.callback


def _is_tracking(view_class: Any, service: str) -> bool:
    """Whether a view is Anymail's of what became of mails sent through `service`."""
    named = getattr(view_class, "esp_name", "") == service
    return named and getattr(view_class, "signal", inbound) is not inbound


def _find_view(service: str) -> Any:
    """The class of Anymail's view of what became of mails; None if it has none of this service."""
    if not service:
        return None
    # Late, by its name: it imports the views of all services, which workers have no use for.
    for pattern in import_module("anymail.urls").urlpatterns:
        if _is_tracking(pattern.callback.view_class, service):
            return pattern.callback.view_class
    return None


def _make_view(view_class: Any, options: Mapping[str, Any]) -> Any:
    try:
        view = view_class(**options)
    except ImproperlyConfigured as error:
        raise NotConfigured(str(error)) from None
    except Exception as error:  # whatever a library says of a key that is none
        raise NotConfigured(describe(error)) from None
    if not asks_for_proof(view):
        raise NotConfigured(f"{view.esp_name}: neither its secret nor WEBHOOK_SECRET is set")
    return view


def _check(view: Any, request: WSGIRequest) -> None:
    try:
        view.run_validators(request)
    except ImproperlyConfigured as error:
        raise NotConfigured(str(error)) from None
    except AnymailWebhookValidationFailure as error:
        raise Forged(scrub(str(error))) from None
    except Exception as error:  # a stranger's: what cannot even be checked is not believed
        raise Forged(type(error).__name__) from None


def _read(view: Any, request: WSGIRequest) -> Sequence[Any]:
    try:
        events: Sequence[Any] = view.parse_events(request)
    except ImproperlyConfigured as error:  # so it says of events that belong to another view
        raise BadCallback(str(error)) from None
    except (
        AnymailError, AssertionError, LookupError, TypeError, AttributeError, ValueError
    ) as error:  # fmt: skip
        raise BadCallback(f"It is not built as documented: {type(error).__name__}.") from None
    return events


class _Request(WSGIRequest):
    """A callback as a request of Django's."""

    def __init__(self, callback: Callback) -> None:
        address = urlsplit(callback.url)
        headers = {
            f"HTTP_{name.upper().replace('-', '_')}": value
            for name, value in callback.headers.items()
        }
        super().__init__(
            {
                **headers,
                "REQUEST_METHOD": callback.method,
                "PATH_INFO": unquote_to_bytes(address.path).decode("latin-1"),  # as WSGI has it
                "QUERY_STRING": address.query,
                "CONTENT_TYPE": callback.headers.get("content-type", ""),
                "CONTENT_LENGTH": str(len(callback.body)),
                "SERVER_NAME": address.hostname or "",
                "SERVER_PORT": str(address.port or (443 if address.scheme == "https" else 80)),
                "wsgi.url_scheme": address.scheme,
                "wsgi.input": BytesIO(callback.body),
            }
        )
        self._raw = callback.body

    @property
    def body(self) -> bytes:
        """All of it: Django's own refuses what is larger than the host's forms may be."""
        return self._raw
