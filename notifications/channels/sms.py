"""SMS: phones as addresses, and one plain text (`notifications/<kind>/sms.txt`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from notifications.channels import templates
from notifications.channels.contexts import in_language_of, refuse_objects
from notifications.channels.phones import PhoneChannel
from notifications.errors import InvalidMessage
from notifications.message import Sms

if TYPE_CHECKING:
    from notifications.kinds import Kind
    from notifications.models import Notification

LONGEST = 10  # segments of one message; what carriers join safely ("What is SMS", GSM 03.40)

# GSM 03.38, the alphabet of seven bits: other characters make the whole message UCS-2, of which
# fewer fit. Those of the extension table take two places.
_GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")


class SmsChannel(PhoneChannel):
    """Text messages to one phone at a time."""

    name = "sms"

    def compose(
        self, row: Notification, kind: type[Kind] | None, context: Mapping[str, Any]
    ) -> Sms:
        """The text of `row`. Raises InvalidMessage; template errors come through."""
        if kind is None:
            raise InvalidMessage("A text message needs a kind: its text is a template.")
        refuse_objects(context, where=kind.name)
        with in_language_of(row):
            text = templates.render_text(kind.name, [self.name], context)
        # Each character is paid for, templates leave blank lines behind, and one no-break space
        # more than halves what fits.
        text = "\n".join(filter(None, (" ".join(line.split()) for line in text.splitlines())))
        if not text:
            raise InvalidMessage(f"The template sms.txt of {kind.name} says nothing.")
        needed = count_segments(text)
        if needed > LONGEST:
            raise InvalidMessage(
                f"The text message of {kind.name} needs {needed} segments, more than {LONGEST}: "
                f"shorten its template sms.txt."
            )
        return Sms(id=row.pk, to=row.to, text=text, category=kind.name)

    def preload(self, kinds: Sequence[type[Kind]]) -> None:
        """Compile the templates of `kinds`."""
        templates.preload([kind.name for kind in kinds], names=[self.name])


def count_segments(text: str) -> int:
    """How many messages a phone network makes of `text`: each is paid for.

    160 characters of the GSM alphabet fit in one, 153 in each of several; of others 70 and 67
    (GSM 03.40, 9.2.3.24.1).
    """
    if all(each in _GSM or each in _EXTENDED for each in text):
        length = sum(2 if each in _EXTENDED else 1 for each in text)
        one, several = 160, 153
    else:
        length = len(text.encode("utf-16-be")) // 2
        one, several = 70, 67
    return 1 if length <= one else -(-length // several)
