"""What takes longer in one way than in another, on a machine where everything takes now longer, now
shorter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Self


@dataclass(frozen=True)
class Added:
    """The seconds that something takes longer, and how far the machine may have put that off."""

    seconds: float
    noise: float  # three standard errors

    def __str__(self) -> str:
        return f"{self.seconds * 1000:+.0f} ms, give or take {self.noise * 1000:.0f}"

    @property
    def least(self) -> float:
        """The seconds beyond doubt."""
        return self.seconds - self.noise

    @classmethod
    def measure(
        cls, one: Callable[[], float], other: Callable[[], float], *, pairs: int, times: int
    ) -> Self:
        """What `times` of the other take longer than of the one. They are compared in pairs, so
        that both see the same machine; each tells its seconds."""
        differences = []
        for turn in range(pairs):
            if turn % 2:
                after, before = other(), one()
            else:
                before, after = one(), other()
            differences.append(after - before)
        middle = median(differences)
        spread = 1.4826 * median(abs(each - middle) for each in differences)
        return cls(times * middle, times * 3 * 1.2533 * spread / pairs**0.5)
