"""Templates of mails that a test writes itself."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.test import override_settings


def use_templates(sources: dict[str, str]) -> Any:
    """Settings in which these are the only templates, by their names."""
    configured = settings.TEMPLATES[0]
    loaders = [("django.template.loaders.locmem.Loader", sources)]
    options = {"loaders": [("django.template.loaders.cached.Loader", loaders)]}
    return override_settings(TEMPLATES=[{"BACKEND": configured["BACKEND"], "OPTIONS": options}])


def kind_templates(name: str, **parts: str) -> dict[str, str]:
    """The templates of the kind `name`: subject, text and html, as far as given."""
    endings = {"subject": "subject.txt", "text": "txt", "html": "html"}
    return {f"notifications/{name}/email.{endings[part]}": parts[part] for part in parts}
