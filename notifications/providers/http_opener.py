"""The standard library's way to ask over HTTP, without redirects.

`urllib` sends headers and contents on to wherever an answer points; here they go to the configured
host alone. For what is asked seldom: calls that are timed and cut go through `http_session`.
"""

from __future__ import annotations

from typing import Any
from urllib.request import HTTPRedirectHandler, OpenerDirector, build_opener


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        """An address that answers elsewhere is a mistake to be told: it raises HTTPError."""


def make_opener() -> OpenerDirector:
    """An opener that goes to the address it is given and nowhere else."""
    return build_opener(_NoRedirects)
