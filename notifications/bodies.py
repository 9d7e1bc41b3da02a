"""What strangers post, read so that nothing in it can break whoever reads on."""

from __future__ import annotations

import json
from typing import Any


def read_json(body: bytes) -> Any:
    """The values in `body`.

    Raises ValueError for what is no JSON, for what is nested so deeply that it cannot be read, and
    for half a surrogate pair: JSON can write one, and no hash and no database takes it.
    """
    try:
        read = json.loads(body)
        json.dumps(read, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return read
