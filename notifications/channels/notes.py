"""Short messages: how a row becomes a `Note`, for the inbox and for web push alike.

Their text is in `notifications/<kind>/<channel>.txt`: the title on the first line, what follows
is the text. A channel may take the template of another where it has none of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from notifications.channels import templates
from notifications.channels.contexts import in_language_of, refuse_objects
from notifications.errors import InvalidMessage
from notifications.message import Note

if TYPE_CHECKING:
    from notifications.kinds import Kind
    from notifications.models import Notification

_LINK = re.compile(r"https?://[^\s/]\S*|/(?![/\\])\S*")  # no javascript:, no //host of another site


def compose_note(
    row: Notification,
    kind: type[Kind] | None,
    context: Mapping[str, Any],
    *,
    names: Sequence[str],
) -> Note:
    """The note of `row` in its language, from the first of the kind's templates `names` there is.

    Raises InvalidMessage; template errors come through.
    """
    if kind is None:
        raise InvalidMessage(f"A message on {row.channel} needs a kind: its text is a template.")
    refuse_objects(context, where=kind.name)
    with in_language_of(row):
        words = templates.render_text(kind.name, names, context).strip()
        link = str(kind.link(row, context))
    title, _, text = words.partition("\n")
    if not title:
        raise InvalidMessage(f"The template {names[0]}.txt of {kind.name} has no first line.")
    if link and not _LINK.fullmatch(link):
        raise InvalidMessage(f"The link of {kind.name} must be a path or http(s), not {link!r}.")
    return Note(
        id=row.pk,
        to=row.to,
        title=title.strip(),
        text=text.strip(),
        link=link,
        type=kind.name,
    )
