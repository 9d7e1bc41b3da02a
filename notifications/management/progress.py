"""How far long work is: one line on a terminal, drawn again and again."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from django.core.management.base import OutputWrapper

OFTEN = 0.1  # seconds between two drawings, at least


class Progress:
    """Counts, and tells `out`; says nothing unless `shown`.

    with Progress(out, "discarded", of=500, shown=True) as progress:
        progress.add(20)
    """

    def __init__(self, out: OutputWrapper, words: str, *, of: int | None, shown: bool) -> None:
        self._out, self._words, self._of, self.shown = out, words, of, shown
        self._done = self._width = 0
        self._drawn = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave an empty line for what is said next."""
        if self._width:
            self._write("")
            self._out.write("\r", ending="")

    def add(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        if self.shown and time.monotonic() - self._drawn >= OFTEN:
            far = f"{self._done} of {self._of}" if self._of is not None else str(self._done)
            self._write(f"{far} {self._words}")
            self._drawn = time.monotonic()

    def _write(self, line: str) -> None:
        self._out.write(f"\r{line.ljust(self._width)}", ending="")
        self._out.flush()
        self._width = max(self._width, len(line))
