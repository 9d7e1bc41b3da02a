"""Cutting a socket that another thread is using."""

from __future__ import annotations

import socket
from contextlib import suppress


def cut(sock: socket.socket) -> None:
    """Shut `sock` down: whoever reads from it or writes to it is woken by an error."""
    with suppress(OSError):  # not connected, or cut before
        # Not SSLSocket.shutdown, which would take the TLS state from under the other thread.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
