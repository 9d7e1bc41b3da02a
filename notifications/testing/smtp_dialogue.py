"""What the mail server for tests says, and what it can be told to say instead."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from notifications.testing.smtp_server import SmtpServer

FOR_EVER = 3600.0  # seconds a hanging server hangs; stopping it ends that
DRIP = 0.05  # seconds between the bytes of a dripping answer

Stage = Literal[
    "CONNECT", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "CONTENT", "RSET", "QUIT"
]


@dataclass(slots=True)
class Rule:
    """What the server does instead of its usual answer at one stage."""

    at: Stage
    reply: str = ""  # "451 come back later"; empty: the usual one
    match: str = "*"  # pattern of the sender's address at MAIL, of the recipient's from RCPT on
    times: int | None = None  # how often; None: always
    after: int = 0  # how often it lets pass before
    then: Literal["", "hang", "drip", "close", "reset"] = ""  # hang, drip: instead of the reply
    accept: bool = False  # at CONTENT: keeps the message, whatever it answers
    delay: float = 0.0  # seconds before it answers

    def applies(self, stage: str, address: str) -> bool:
        """Whether it is this rule's turn, which counts as one."""
        if stage != self.at or not fnmatchcase(address.lower(), self.match.lower()):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


@dataclass(frozen=True, slots=True)
class Received:
    """A message that the server took over."""

    sender: str  # envelope sender
    to: str  # envelope recipients, usually one, separated by commas
    content: bytes  # as sent, without the dots that SMTP added
    at: float  # time.monotonic() of its acceptance

    @property
    def message(self) -> EmailMessage:
        """The content as Python's own parser reads it."""
        return message_from_bytes(self.content, policy=default)

    @property
    def notification_id(self) -> str:
        """The X-Notification-Id, empty if there is none."""
        for line in self.content.partition(b"\r\n\r\n")[0].split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"x-notification-id":
                return value.strip().decode("ascii", "replace")
        return ""


class HungUp(Exception):
    """Raised inside when the conversation is over."""


@dataclass(slots=True)
class _Transaction:
    sender: str = ""
    started: bool = False
    recipients: list[str] = field(default_factory=list)

    @property
    def to(self) -> str:
        return ", ".join(self.recipients)


class Dialogue:
    """What is said over one connection."""

    def __init__(
        self, server: SmtpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._mail = _Transaction()
        self._encrypted = server.implicit_tls
        self._logged_in = server.users is None

    async def run(self) -> None:
        await self._answer("CONNECT", "", "220 catcher ESMTP")
        while True:
            line = (await self._read_to(b"\r\n")).decode("utf-8", "replace")
            self._server.commands.append(line)
            if self._buffer and not self._server.pipelining:
                self._server.early += 1
            verb, _, rest = line.partition(" ")
            verb = verb.upper()
            if verb in ("EHLO", "HELO"):
                await self._answer("EHLO", rest, self._greeting(verb))
            elif verb == "STARTTLS" and self._server.tls and not self._encrypted:
                await self._start_tls()
            elif verb == "AUTH" and self._server.users is not None:
                await self._log_in(rest)
            elif verb == "MAIL":
                await self._take_sender(rest)
            elif verb == "RCPT":
                await self._take_recipient(rest)
            elif verb == "DATA":
                await self._take_content()
            elif verb == "RSET":
                self._mail = _Transaction()
                await self._answer("RSET", "", "250 2.0.0 ok")
            elif verb == "NOOP":
                await self._say("250 2.0.0 ok")
            elif verb == "QUIT":
                await self._answer("QUIT", "", "221 2.0.0 bye")
                raise HungUp
            else:
                await self._say("502 5.5.2 unknown command")

    def _greeting(self, verb: str) -> str:
        if verb == "HELO":
            return "250 catcher"
        server = self._server
        features = ["catcher", "8BITMIME", "ENHANCEDSTATUSCODES", f"SIZE {server.size}"]
        features += ["PIPELINING"] if server.pipelining else []
        features += ["STARTTLS"] if server.tls and not self._encrypted else []
        features += [f"AUTH {server.auth_methods}"] if server.users is not None else []
        lines = [f"250-{each}" for each in features[:-1]]
        return "\r\n".join([*lines, f"250 {features[-1]}"])

    async def _start_tls(self) -> None:
        if not await self._answer("STARTTLS", "", "220 2.0.0 go ahead"):
            return
        assert self._server.tls is not None
        await self._writer.start_tls(self._server.tls)
        self._encrypted = True
        self._buffer.clear()

    async def _log_in(self, rest: str) -> None:
        method, _, initial = rest.partition(" ")
        if method.upper() == "PLAIN":
            raw = initial or await self._ask("")
            _, user, password = b64decode(raw).decode().split("\0")
        else:
            user = b64decode(initial or await self._ask("Username:")).decode()
            password = b64decode(await self._ask("Password:")).decode()
        assert self._server.users is not None
        if self._server.users.get(user) == password:
            self._logged_in = await self._answer("AUTH", user, "235 2.7.0 welcome")
        else:
            await self._answer("AUTH", user, f"535 5.7.8 wrong password for {user}")

    async def _ask(self, question: str) -> str:
        await self._say(f"334 {b64encode(question.encode()).decode()}")
        return (await self._read_to(b"\r\n")).decode()

    async def _take_sender(self, rest: str) -> None:
        address = _address(rest)
        if not self._logged_in:
            await self._say("530 5.7.0 log in first")
        elif self._mail.started:
            await self._say("503 5.5.1 nested MAIL")
        elif await self._answer("MAIL", address, "250 2.1.0 ok"):
            self._mail = _Transaction(sender=address, started=True)

    async def _take_recipient(self, rest: str) -> None:
        address = _address(rest)
        if not self._mail.started:
            await self._say("503 5.5.1 MAIL first")
        elif await self._answer("RCPT", address, "250 2.1.5 ok"):
            self._mail.recipients.append(address)

    async def _take_content(self) -> None:
        mail = self._mail
        if not mail.started:
            await self._say("503 5.5.1 MAIL first")
            return
        rule = self._server.rule_for("DATA", mail.to)
        if rule is None and not mail.recipients:
            await self._say("554 5.5.1 no valid recipients")
            return
        if not await self._obey(rule, "354 go ahead"):
            return
        content = await self._read_content()
        self._mail = _Transaction()
        if not mail.recipients:
            await self._say("554 5.5.1 no valid recipients")
            return
        received = Received(mail.sender, mail.to, content, time.monotonic())
        rule = self._server.rule_for("CONTENT", mail.to)
        usual = "250 2.0.0 ok: queued"
        reply = usual if rule is None else rule.reply or usual
        cut_off = rule is not None and rule.then
        if (reply.startswith("2") and not cut_off) or (rule is not None and rule.accept):
            self._server.keep(received)
        await self._obey(rule, usual)

    async def _read_content(self) -> bytes:
        # The line before the content ends with CRLF: with it, a lone dot is no special case.
        self._buffer[:0] = b"\r\n"
        content = await self._read_to(b"\r\n.\r\n")
        return content.replace(b"\r\n.", b"\r\n")[2:] + b"\r\n"

    async def _read_to(self, end: bytes) -> bytes:
        """What comes before `end`, which is taken too."""
        searched = 0
        while (place := self._buffer.find(end, searched)) < 0:
            searched = max(0, len(self._buffer) - len(end) + 1)
            self._server.waits += 1
            data = await self._reader.read(1 << 16)
            if not data:
                raise HungUp
            if self._server.latency:
                await asyncio.sleep(self._server.latency)
            self._buffer += data
        found = bytes(self._buffer[:place])
        del self._buffer[: place + len(end)]
        return found

    async def _answer(self, stage: str, address: str, usual: str) -> bool:
        """Answer as usual or as a rule says; whether the answer is a good one."""
        return await self._obey(self._server.rule_for(stage, address), usual)

    async def _obey(self, rule: Rule | None, usual: str) -> bool:
        if rule is None:
            await self._say(usual)
            return True
        await asyncio.sleep(rule.delay)
        reply = rule.reply or usual
        if rule.then == "hang":
            await asyncio.sleep(FOR_EVER)
        if rule.then == "drip":
            await self._drip(reply[:3])
        if rule.then == "reset":
            self._reset()
            raise HungUp
        if rule.then == "close" and not rule.reply:
            raise HungUp
        await self._say(reply)
        if rule.then == "close" or reply.startswith("421"):
            raise HungUp
        return reply[:1] in "23"

    async def _say(self, reply: str) -> None:
        self._writer.write(f"{reply}\r\n".encode())
        await self._writer.drain()

    async def _drip(self, code: str) -> None:
        """An answer that goes on for ever, so that no single read takes long."""
        while True:
            for byte in f"{code}-wait\r\n".encode():
                self._writer.write(bytes([byte]))
                await self._writer.drain()
                await asyncio.sleep(DRIP)

    def _reset(self) -> None:
        """Close with RST instead of FIN."""
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


def _address(rest: str) -> str:
    """The address in FROM:<ann@example.com> SIZE=100."""
    return rest.partition("<")[2].rpartition(">")[0]
