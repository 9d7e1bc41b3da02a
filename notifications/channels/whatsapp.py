"""WhatsApp: phones as addresses, and template messages composed from what a kind declares."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils import translation

from notifications import contents
from notifications.channels import whatsapp_registry
from notifications.channels.contexts import refuse_objects
from notifications.channels.phones import PhoneChannel
from notifications.channels.whatsapp_template import (
    ButtonValue,
    Read,
    WhatsAppTemplate,
    choose,
    compile_all,
    listed,
    reader,
)
from notifications.errors import InvalidMessage
from notifications.message import Media, WhatsApp

if TYPE_CHECKING:
    from notifications.kinds import Kind
    from notifications.models import Notification

__all__ = ["WhatsAppChannel", "WhatsAppTemplate"]

logger = logging.getLogger("notifications.templates")


class WhatsAppChannel(PhoneChannel):
    """Template messages to one phone at a time."""

    name = "whatsapp"

    def compose(
        self, row: Notification, kind: type[Kind] | None, context: Mapping[str, Any]
    ) -> WhatsApp:
        """The message of `row`. Raises InvalidMessage; errors of template filters come through."""
        if kind is None:
            template = _from_content(row)
            return _fill(row, template, row.language, read=str)
        refuse_objects(context, where=kind.name)
        chosen = choose(kind.whatsapp, context)
        if chosen is None:
            raise InvalidMessage(f"The kind {kind.name} has no WhatsApp template for this message.")
        language = row.language or settings.LANGUAGE_CODE
        # Numbers and dates are written as the words around them.
        with translation.override(translation.to_language(chosen.language_for(language))):
            return _fill(row, chosen, language, read=reader(chosen, context))

    def preload(self, kinds: Sequence[type[Kind]]) -> None:
        """Compile the parameters of `kinds`, and load the tables of phone numbers."""
        self.clean("+12025550123")
        for kind in kinds:
            for template in listed(kind.whatsapp):
                try:
                    compile_all(template)
                except Exception as error:
                    logger.warning("WhatsApp of %s: %s: %s", kind.name, type(error).__name__, error)


def _fill(row: Notification, template: WhatsAppTemplate, language: str, *, read: Read) -> WhatsApp:
    header, body, buttons = template.fill(read)
    code = template.language_for(language)
    return WhatsApp(
        id=row.pk,
        to=row.to,
        template=template.name,
        language=code,
        header=header,
        body=body,
        buttons=buttons,
        category=row.kind,
        difference=whatsapp_registry.difference(template, code),
    )


# -- messages without a kind ----------------------------------------------------------------


def write_content(template: WhatsAppTemplate) -> dict[str, Any]:
    """What `compose` needs of a message without a kind, as JSON can hold it."""
    header = template.header
    media = None
    if isinstance(header, Media):
        media, header = [header.type, header.link, header.filename], None
    return {
        "template": template.name,
        "languages": list(template.languages),
        "header": header,
        "media": media,
        "body": dict(template.body) if isinstance(template.body, Mapping) else list(template.body),
        "buttons": list(template.buttons),
    }


def _from_content(row: Notification) -> WhatsAppTemplate:
    if row.content is None:
        raise InvalidMessage("The content of this message has been erased.")
    content = contents.unseal(row.content)
    buttons: list[ButtonValue] = [
        (each[0], each[1]) if isinstance(each, list) else each for each in content["buttons"]
    ]
    return WhatsAppTemplate(
        content["template"],
        languages=content["languages"],
        header=Media(*content["media"]) if content["media"] else content["header"],
        body=content["body"],
        buttons=buttons,
    )
