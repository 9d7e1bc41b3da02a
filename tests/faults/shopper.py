"""Places orders when it is told to: `python -m tests.faults.shopper`.

Each line of its input is the options of one `place_orders`, as JSON. It answers "done" once they
are placed and everything was rung that could be. The process is one for a whole test, as a web
server is: it had Redis and the database before they went away.
"""

from __future__ import annotations

import io
import json
import sys
import traceback

import django
from django.core.management import call_command
from django.db import close_old_connections

if __name__ == "__main__":
    django.setup()
    from notifications import rings

    for line in sys.stdin:
        close_old_connections()
        try:
            call_command("place_orders", *json.loads(line), stdout=io.StringIO())
        except Exception:
            traceback.print_exc()
            print("failed", flush=True)
        else:
            rings.flush()
            print("done", flush=True)
