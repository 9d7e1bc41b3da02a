"""Where a Django email backend hands its mail over: two that lead there fail together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.mail.backends.smtp import EmailBackend as SmtpBackend
from django.utils.module_loading import import_string


def server_of(backend: str, arguments: Mapping[str, Any] | None = None) -> str:
    """The host of SMTP, whatever its port; the name of the service behind an Anymail backend; for
    any other the backend itself."""
    try:
        found = import_string(backend)
    except ImportError:
        return backend
    if isinstance(found, type) and issubclass(found, SmtpBackend):
        return str((arguments or {}).get("host") or settings.EMAIL_HOST).lower()
    return str(getattr(found, "esp_name", "") or backend)
