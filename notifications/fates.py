"""What a report means for a message, told by one pure function.

Reports come doubled, late and out of order, so the answer does not depend on their order: news of
an arrival counts whichever attempt arrived; bad news, and news of the way, only of the latest
attempt. Where a move does not exist in `models.work.TRANSITIONS`, the message stays as it is.
"""

from __future__ import annotations

from notifications.message import Fate
from notifications.models import State
from notifications.models.work import may_move

# Strongest first: of the reports about one message the first that moves it makes the others idle.
STRENGTH = (
    Fate.COMPLAINED,
    Fate.READ,
    Fate.BOUNCED,
    Fate.DELIVERED,
    Fate.FAILED,
    Fate.SENT,
    Fate.DEFERRED,
    Fate.OPTED_OUT,
)

ARRIVED = frozenset((Fate.DELIVERED, Fate.READ, Fate.COMPLAINED))

_HEADING = {
    Fate.SENT: State.SENT,
    Fate.DEFERRED: State.SENT,  # the provider has it, and goes on trying
    Fate.DELIVERED: State.DELIVERED,
    Fate.READ: State.READ,
    Fate.BOUNCED: State.BOUNCED,
    Fate.COMPLAINED: State.COMPLAINED,
}


def counts(state: State, fate: Fate, *, latest: bool, unknown: bool) -> bool:
    """Whether a report has a say about a message in `state`.

    `latest`: it is about the latest attempt; `unknown`: nobody knew what became of that attempt. A
    message that waits goes again for a reason, which only news of an unknown attempt removes.
    """
    if fate in ARRIVED:
        return True
    return latest and (state is not State.PENDING or unknown)


def heading(state: State, fate: Fate) -> State | None:
    """Where a report that counts moves a message; None: it stays. FAILED needs a decision."""
    target = _HEADING.get(fate)
    return target if target is not None and may_move(state, target) else None
