"""What the answers and silences of mail servers mean.

Answers are judged by their code (RFC 5321 §4.2), never by an exception's class: the classes of
`smtplib` carry 4xx and 5xx alike.
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
from dataclasses import dataclass

from notifications.message import Email, Outcome, Verdict
from notifications.redaction import describe, scrub, unquote

# 530: log in first (RFC 4954 §6). 534, 535: the log-in is too weak or wrong. 538: only encrypted.
LOGIN_CODES = frozenset((530, 534, 535, 538))

# The state of the mail system (RFC 3463 §3.4): a full disk, a broken table. The code before it is
# the server's taste: 452 is said of a full disk and of a full mailbox alike.
_SYSTEM = re.compile(r"4\.3\.\d{1,3}\b")


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's answer to one command."""

    code: int
    text: str

    @property
    def ok(self) -> bool:
        return 200 <= self.code < 300


class Broken(Exception):
    """Raised when the connection is gone, silent too long, or no longer speaks SMTP."""

    def __init__(self, code: str, text: str, *, error: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.error = error


def judge_reply(reply: Reply, message: Email) -> Outcome:
    """What a final answer to MAIL, RCPT, DATA or the content means for the message."""
    text = redact(reply.text, message)
    code = str(reply.code)
    if 200 <= reply.code < 300:
        return Outcome(Verdict.ACCEPTED, code=code, text=text)
    if reply.code in LOGIN_CODES:
        return Outcome(Verdict.HOLD, code=code, text=text, theirs=True)
    if 400 <= reply.code < 500:
        # 421: the server is closing down (RFC 5321 §3.8).
        theirs = reply.code == 421 or _SYSTEM.match(reply.text) is not None
        return Outcome(Verdict.LATER, code=code, text=text, theirs=theirs)
    if 500 <= reply.code < 600:
        return Outcome(Verdict.PERMANENT, code=code, text=text)
    return Outcome(Verdict.UNKNOWN, code=code, text=text, theirs=True)


def judge_connection(error: Exception) -> Outcome:
    """What an error before any message means. Nothing was handed over, so no outcome is unknown.

    A server that refuses with a code of 5xx (a wrong password, an address it blocks) will refuse
    the next message just as well: the provider is held, no message is blamed.
    """
    name = type(error).__qualname__
    match error:
        case smtplib.SMTPResponseException():
            raw = error.smtp_error
            text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
            verdict = Verdict.HOLD if error.smtp_code >= 500 else Verdict.LATER
            return Outcome(
                verdict, code=str(error.smtp_code), text=redact(text), theirs=True, error=name
            )
        case smtplib.SMTPNotSupportedError() if "AUTH" in str(error):
            text = "the server offers no log-in, or only over TLS"
            return Outcome(Verdict.HOLD, code="no_auth", text=text, theirs=True, error=name)
        case smtplib.SMTPNotSupportedError():
            text = "the server does not offer STARTTLS"
            return Outcome(Verdict.LATER, code="no_tls", text=text, theirs=True, error=name)
        case Broken():
            return Outcome(
                Verdict.LATER, code=error.code, text=error.text, theirs=True, error=error.error
            )
        case smtplib.SMTPException() | OSError():
            return Outcome(
                Verdict.LATER, code=network_code(error), text=describe(error), theirs=True,
                error=name,
            )  # fmt: skip
    return Outcome(Verdict.UNKNOWN, text=describe(error), error=name)


def network_code(error: Exception) -> str:
    """One word for a network error."""
    match error:
        case TimeoutError():
            return "timeout"
        case ConnectionRefusedError():
            return "refused"
        case socket.gaierror():
            return "dns"
        case ssl.SSLError():
            return "tls"
        case smtplib.SMTPServerDisconnected() | ConnectionError() | OSError():
            return "disconnected"
    return "network"


def redact(text: str, message: Email | None = None) -> str:
    """A server's words without addresses, and without those of `message`: they go into lists and
    logs."""
    if message is not None:
        text = re.sub(rf"<?{re.escape(message.to)}>?", "<address>", text, flags=re.IGNORECASE)
        text = unquote(text, (message.subject, message.text, message.html))
    return scrub(text)
