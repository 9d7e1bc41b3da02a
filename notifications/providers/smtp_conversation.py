"""What is said over an open SMTP connection: one message after the other.

Where the server offers PIPELINING (RFC 2920) a mail costs one round trip: the content of the last
one travels in a group with MAIL, RCPT and DATA of the next. Elsewhere each command waits for its
answer. One recipient a message, so that each answer is about one recipient.

From the moment its content is sent a message is *begun*: if the connection then breaks, nobody
knows whether the server has it. Before that moment a broken connection costs nothing: a message
that was only announced goes back to the lane, and goes again over a fresh connection.
"""

from __future__ import annotations

import re
import smtplib
from dataclasses import dataclass, replace
from typing import BinaryIO

from notifications.errors import InvalidMessage
from notifications.message import Email, Outcome, Verdict
from notifications.providers import mime
from notifications.providers.base import Lane
from notifications.providers.smtp_replies import (
    Broken,
    Reply,
    judge_connection,
    judge_reply,
    network_code,
    redact,
)
from notifications.redaction import describe

LONGEST_LINE = 4096  # bytes of one answer line; RFC 5321 §4.5.3.1.5 allows 512
MOST_LINES = 100  # of one answer
GOODBYE = 0.5  # seconds the server has to answer QUIT

DATA, RSET, LONE_DOT = b"DATA\r\n", b"RSET\r\n", b".\r\n"
GO_AHEAD, CLOSING = 354, 421
HUNG_UP = frozenset(("421", "disconnected"))

_ANSWER = re.compile(rb"[2-5]\d\d[ \r\n-]")


class Wire:
    """The bytes of one open connection. Raises Broken for whatever goes wrong."""

    def __init__(self, client: smtplib.SMTP, *, pipelining: bool) -> None:
        assert client.sock is not None
        self._sock = client.sock
        # smtplib may have read ahead into its file: go on with that one.
        self._file: BinaryIO = client.file or client.sock.makefile("rb")
        self.pipelining = pipelining and client.has_extn("pipelining")
        self.knows_size = client.has_extn("size")
        size = client.esmtp_features.get("size", "").strip()
        self.largest = int(size) if size.isdigit() else 0  # bytes; 0: no limit (RFC 1870 §4)
        self.proved = (
            False  # it has answered all about a message: what breaks it now may be its age
        )

    def send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise _broken(error) from error

    def read(self) -> Reply:
        """The next answer."""
        words: list[str] = []
        while len(words) < MOST_LINES:
            try:
                line = self._file.readline(LONGEST_LINE)
            except (OSError, ValueError) as error:
                raise _broken(error) from error
            if not line.endswith(b"\n") and len(line) < LONGEST_LINE:
                # Half a line is no answer: "250" may have been about to become "250-".
                raise Broken("disconnected", "the server closed the connection")
            if not _ANSWER.match(line):
                break
            words.append(line[4:].decode("utf-8", "replace").strip())
            if line[3:4] != b"-":
                return Reply(int(line[:3]), " ".join(words))
        raise Broken("protocol", "the server does not answer in SMTP")

    def ask(self, command: bytes) -> Reply:
        self.send(command)
        return self.read()

    def quit(self) -> None:
        self._sock.settimeout(GOODBYE)
        self.ask(b"QUIT\r\n")


def _broken(error: Exception) -> Broken:
    return Broken(network_code(error), describe(error), error=type(error).__qualname__)


# -- the conversation -----------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _Envelope:
    """A message ready for the wire."""

    message: Email
    mail: bytes  # the command MAIL
    rcpt: bytes  # the command RCPT
    content: bytes  # dots stuffed, with the dot that ends it


class Conversation:
    """Messages over one connection, until the lane closes or the connection breaks.

    At most two messages are known at a time: the *body*, whose DATA was answered with 354, and
    the *next*, announced after it.
    """

    def __init__(self, wire: Wire, lane: Lane[Email]) -> None:
        self._wire = wire
        self._lane = lane
        self._body: _Envelope | None = None
        self._begun = False  # the body's content is on its way
        self._stray_data = False  # the server waits for content that nobody shall get
        self._stray_mail = False  # a refused message left MAIL open
        self._next: _Envelope | None = None

    def carry_on(self, message: Email) -> None:
        """Send `message` and all that follow; returns when the lane closes.

        Raises Broken when the connection does not go on. Each message taken by then is reported,
        or given back.
        """
        self._next = self._pack(message)
        try:
            while self._next or self._body or self._stray_data or self._look_ahead(wait=True):
                self._exchange()
                if self._body or self._stray_data:
                    self._look_ahead(wait=False)
        except Broken as lost:
            self._give_up(lost)
            raise

    def _look_ahead(self, *, wait: bool) -> bool:
        """Take the next message if there is one; with `wait`, false means the lane is closed."""
        while self._next is None:
            message = self._lane.take(wait=wait)
            if message is None:
                return False
            self._next = self._pack(message)
        return True

    def _exchange(self) -> None:
        """One round trip where pipelining is known: the body, and the next one's commands."""
        body, following = self._body, self._next
        head = body.content if body else LONE_DOT if self._stray_data else b""
        group = head
        if following and self._wire.pipelining:
            group += self._rset() + following.mail + following.rcpt + DATA
        if body:
            self._lane.begin(body.message)
            self._begun = True
        if group:
            self._wire.send(group)
        if head:
            self._end_data(self._wire.read())
        if following:
            self._announce(following)

    def _rset(self) -> bytes:
        return RSET if self._stray_mail else b""

    def _end_data(self, reply: Reply) -> None:
        """The answer to a body, or to the lone dot in place of one."""
        body, self._body = self._body, None
        self._begun = self._stray_data = False
        if body:
            outcome = judge_reply(reply, body.message)
            if outcome.accepted:
                outcome = replace(outcome, message_id=body.message.message_id)
            self._lane.report(body.message, outcome)
        if reply.code == CLOSING:
            raise Broken("421", redact(reply.text))

    def _announce(self, envelope: _Envelope) -> None:
        """The answers to RSET, MAIL, RCPT and DATA; without pipelining, the commands too."""
        ask = (lambda command: self._wire.read()) if self._wire.pipelining else self._wire.ask
        if self._stray_mail:
            self._check(ask(RSET))
            self._stray_mail = False
        refused: Reply | None = None
        for command in (envelope.mail, envelope.rcpt):
            if refused and not self._wire.pipelining:
                break
            reply = self._check(ask(command))
            if not refused and not reply.ok:
                refused = reply
        if not refused or self._wire.pipelining:
            reply = self._check(ask(DATA))
            if reply.code == GO_AHEAD and refused:
                self._stray_data = True  # RFC 2920 §3.1: it must be ended with a lone dot
            elif reply.code != GO_AHEAD:
                refused = refused or reply
        self._next = None
        self._wire.proved = True
        if refused:
            self._stray_mail = not self._stray_data
            self._lane.report(envelope.message, judge_reply(refused, envelope.message))
        else:
            self._body = envelope

    def _check(self, reply: Reply) -> Reply:
        if reply.code == CLOSING:
            raise Broken("421", redact(reply.text))
        return reply

    def _give_up(self, lost: Broken) -> None:
        """Say what became of the messages that the broken connection had."""
        begun = self._begun and self._body
        if begun:
            self._lane.report(
                begun.message,
                Outcome(
                    Verdict.UNKNOWN,
                    code=lost.code,
                    text=f"lost while the content was handed over: {lost.text}",
                    theirs=True,
                    error=lost.error,
                ),
            )
        if self._next:
            # A connection that has worked and is closed now was too old or too busy: that says
            # nothing about the next message, which was not begun. On a new one it does.
            if begun or (self._wire.proved and lost.code in HUNG_UP):
                self._lane.give_back(self._next.message)
            else:
                self._lane.report(self._next.message, judge_connection(lost))

    def _pack(self, message: Email) -> _Envelope | None:
        """The message ready to go; None if it was reported as impossible."""
        try:
            raw = mime.build(message)
            sender = mime.bare_address(message.sender, name="From")
            to = mime.bare_address(message.to, name="To")
        except InvalidMessage as error:
            outcome = Outcome(
                Verdict.PERMANENT, code="invalid", text=describe(error), error="InvalidMessage"
            )
            self._lane.report(message, outcome)
            return None
        largest = self._wire.largest
        if largest and len(raw) > largest:
            text = f"{len(raw)} bytes, and the server takes {largest} (SIZE)"
            outcome = Outcome(Verdict.PERMANENT, code="too_large", text=text, theirs=True)
            self._lane.report(message, outcome)
            return None
        size = f" SIZE={len(raw)}" if self._wire.knows_size else ""
        end = b".\r\n" if raw.endswith(b"\r\n") else b"\r\n.\r\n"
        return _Envelope(
            message,
            mail=f"MAIL FROM:<{sender}>{size}\r\n".encode("ascii"),
            rcpt=f"RCPT TO:<{to}>\r\n".encode("ascii"),
            content=raw.replace(b"\r\n.", b"\r\n..") + end,
        )
