"""The kills that a saboteur may do, and what it found in the database at each of them.

A file, which the test and the saboteur's processes share.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.faults.database import Database

# What its provider may have, and nobody has written down.
STARTED = """
SELECT id, token FROM notifications_notification
WHERE state = 'pending' AND started AND token IS NOT NULL
"""

Start = tuple[int, str]  # a message, and the claim under which it was started


def started(database: Database) -> set[Start]:
    """What would be doubtful if every worker died now, or has been since an earlier kill."""
    return {(row, str(token)) for row, token in database.query(STARTED)}


class Kills:
    """Those of one saboteur."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def allow(cls, path: Path, count: int) -> Self:
        """So many of them."""
        path.write_text(json.dumps({"left": count, "started": []}))
        return cls(path)

    def take(self, database: Database) -> bool:
        """Take one and write down what is started just now; False when none is left."""
        with self._held() as known:
            if known["left"] <= 0:
                return False
            known["left"] -= 1
            known["started"].append(sorted(started(database)))
        return True

    @property
    def left(self) -> int:
        """How many have not happened."""
        with self._held() as known:
            return int(known["left"])

    @property
    def started(self) -> list[set[Start]]:
        """What was found at each kill that happened."""
        with self._held() as known:
            return [{(row, token) for row, token in found} for found in known["started"]]

    @contextmanager
    def _held(self) -> Iterator[dict[str, Any]]:
        with self.path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            known = json.load(file)
            before = json.dumps(known)
            yield known
            if (now := json.dumps(known)) != before:
                file.seek(0)
                file.truncate()
                file.write(now)
