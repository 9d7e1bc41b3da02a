"""A lane for tests of sessions: it gives out messages, and writes down what becomes of them."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from notifications.message import Outcome

M = TypeVar("M")


class ScriptedLane(Generic[M]):
    """Gives out `messages` in their order, then closes."""

    def __init__(self, *messages: M) -> None:
        self.waiting = deque(messages)
        self.story: list[tuple[str, M]] = []  # what happened, in its order
        self.outcomes: list[tuple[M, Outcome]] = []

    def take(self, *, wait: bool = True) -> M | None:
        if not self.waiting:
            return None
        message = self.waiting.popleft()
        self.story.append(("take", message))
        return message

    def begin(self, message: M) -> None:
        self.story.append(("begin", message))

    def report(self, message: M, outcome: Outcome) -> None:
        self.story.append(("report", message))
        self.outcomes.append((message, outcome))

    def give_back(self, message: M) -> None:
        self.story.append(("give back", message))
        self.waiting.append(message)

    def begun(self, message: M) -> bool:
        return ("begin", message) in self.story

    @property
    def outcome(self) -> Outcome:
        """The only one there is."""
        ((_message, outcome),) = self.outcomes
        return outcome
