"""The providers' callbacks: one address for each provider, `webhooks/<provider>/`.

A callback is checked and read by its provider (`Provider.receive`), kept and applied by
`receipts.take`, and answered at once. What is answered with 5xx comes again: providers try for
hours or days.
"""

from __future__ import annotations

import logging
from typing import Any

from anymail.signals import AnymailTrackingEvent, tracking
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from notifications import conf, receipts
from notifications.errors import (
    BadCallback,
    CallbackError,
    Forged,
    NoCallbacks,
    NoCredentials,
    NotConfigured,
)
from notifications.providers.anymail_events import lets_anybody_in, read_event
from notifications.providers.base import Callback
from notifications.redaction import describe

logger = logging.getLogger("notifications.webhooks")

# Bytes of one callback. WhatsApp announces up to 3 MB (Graph API, "Webhooks", "Payload size").
LARGEST = 4 * 1024 * 1024

_STATUS: dict[type[CallbackError], int] = {
    Forged: 403,
    NoCredentials: 401,
    NotConfigured: 503,  # the secret may be set before the provider gives up
    BadCallback: 400,
    NoCallbacks: 404,
}


@csrf_exempt
@login_not_required
@require_http_methods(["GET", "HEAD", "POST"])
def receive(request: HttpRequest, provider: str) -> HttpResponse:
    """Take in what `provider` reports."""
    try:
        service = conf.provider(provider)
    except ImproperlyConfigured:
        return HttpResponse(status=404)
    body = request.read(LARGEST + 1)  # not `body`: the host's own limit is for forms
    if len(body) > LARGEST:
        return HttpResponse(status=413)
    try:
        told = service.receive(_callback(request, body))
        if not isinstance(told, str):
            receipts.take(provider, told)
    except CallbackError as error:
        logger.warning("callback of %s refused: %s: %s", provider, type(error).__name__, error)
        return _refuse(_STATUS[type(error)])
    except DatabaseError as error:
        logger.warning("callback of %s not kept: %s", provider, type(error).__name__)
        return HttpResponse(status=503)
    except Exception as error:  # Django's own report would quote the body
        logger.error("callback of %s not understood: %s", provider, describe(error))
        return HttpResponse(status=500)
    return HttpResponse(told if isinstance(told, str) else "", content_type="text/plain")


def _refuse(status: int) -> HttpResponse:
    answer = HttpResponse(status=status)
    if status == 401:  # without it, who has a name and password may keep them (Amazon SNS does)
        answer["WWW-Authenticate"] = 'Basic realm="callbacks"'
    return answer


def _callback(request: HttpRequest, body: bytes) -> Callback:
    return Callback(
        method=str(request.method),
        url=request.build_absolute_uri(),
        headers={name.lower(): value for name, value in request.headers.items()},
        query={name: str(value) for name, value in request.GET.items()},
        body=body,
    )


@receiver(tracking, dispatch_uid="notifications.webhooks")
def track(sender: Any, event: AnymailTrackingEvent, esp_name: str, **kwargs: Any) -> None:
    """Take in an event that Anymail's own webhook has checked and read, where a project mounts it.

    What it had no means to check is not believed. Raises what the database raises: Anymail then
    answers 500, and the service sends it again.
    """
    names = [name for name, each in conf.providers().items() if each.service == esp_name != ""]
    if not names:
        logger.info("an event of %s, which no provider of ours hears of this way", esp_name)
        return
    if lets_anybody_in(sender):
        logger.warning("an event of %s, which anybody may have sent, is not believed", esp_name)
        return
    # Several are accounts at one service, of which the signal does not tell.
    ours = receipts.find_sender(names, str(event.message_id or "")) or names[0]
    receipts.take(ours, read_event(event))
