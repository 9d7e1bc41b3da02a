"""Plain SMTP over a kept-open connection, below Django's backend.

The provider reads Django's own EMAIL_… settings; the session greets, encrypts and logs in with
`smtplib`, then carries on by itself (`smtp_conversation`).
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.mail.utils import DNS_NAME

from notifications.message import Email, Outcome
from notifications.providers.base import Lane, Provider, Session
from notifications.providers.smtp_conversation import Conversation, Wire
from notifications.providers.smtp_replies import Broken, judge_connection
from notifications.providers.sockets import cut
from notifications.redaction import blot


@dataclass(frozen=True, slots=True)
class Options:
    """What a connection needs; the settings' EMAIL_… where OPTIONS does not say otherwise."""

    host: str
    port: int
    user: str
    password: str
    use_tls: bool  # STARTTLS
    use_ssl: bool  # TLS from the first byte
    timeout: float  # seconds for each read and write
    certfile: str | None  # our own certificate, for servers that ask for one
    keyfile: str | None
    cafile: str | None  # who signs the server's certificate; None: the system's authorities
    pipelining: bool  # False: never, even where it is offered


OPTION_NAMES = frozenset(name.upper() for name in Options.__slots__)


class Smtp(Provider[Email]):
    """An SMTP server.

    OPTIONS, all optional: HOST, PORT, USER, PASSWORD, USE_TLS, USE_SSL, TIMEOUT, CERTFILE and
    KEYFILE stand for Django's EMAIL_HOST, EMAIL_PORT, EMAIL_HOST_USER, EMAIL_HOST_PASSWORD and so
    on, and default to them. CAFILE is a file of certificates to trust instead of the system's.
    PIPELINING=False sends every command on its own.
    """

    channels = ("email",)

    @property
    def server(self) -> str:
        """Its host."""
        return str(self.read_options().host).lower()

    def connect(self) -> SmtpSession:
        """A session that connects with its first message."""
        return SmtpSession(self)

    def read_options(self) -> Options:
        """The options as they are now; raises nothing, `check` has said what is wrong."""
        given: Mapping[str, Any] = self.options

        def pick(name: str, setting: str) -> Any:
            return given[name] if name in given else getattr(settings, setting)

        # The main thread ends a call at the provider's timeout; a single silent read ends sooner.
        longest = self.timeout * 0.9
        timeout = pick("TIMEOUT", "EMAIL_TIMEOUT")
        return Options(
            host=pick("HOST", "EMAIL_HOST"),
            port=int(pick("PORT", "EMAIL_PORT")),
            user=pick("USER", "EMAIL_HOST_USER"),
            password=pick("PASSWORD", "EMAIL_HOST_PASSWORD"),
            use_tls=bool(pick("USE_TLS", "EMAIL_USE_TLS")),
            use_ssl=bool(pick("USE_SSL", "EMAIL_USE_SSL")),
            timeout=min(float(timeout), longest) if timeout else longest,
            certfile=pick("CERTFILE", "EMAIL_SSL_CERTFILE"),
            keyfile=pick("KEYFILE", "EMAIL_SSL_KEYFILE"),
            cafile=given.get("CAFILE"),
            pipelining=bool(given.get("PIPELINING", True)),
        )

    def judge(self, error: Exception) -> Outcome:
        """The outcome of an error while connecting; nothing was handed over."""
        outcome, options = judge_connection(error), self.read_options()
        return replace(outcome, text=blot(outcome.text, (options.user, options.password)))

    def check(self) -> list[CheckMessage]:
        """Errors for unknown options, and for both kinds of TLS at once."""
        found: list[CheckMessage] = []
        unknown = sorted(set(self.options) - OPTION_NAMES)
        if unknown:
            found.append(
                Error(
                    f"The SMTP provider {self.name!r} has unknown options: {', '.join(unknown)}.",
                    hint=f"It knows {', '.join(sorted(OPTION_NAMES))}.",
                    id="notifications.E050",
                )
            )
        options = self.read_options()
        if options.use_tls and options.use_ssl:
            found.append(
                Error(
                    f"The SMTP provider {self.name!r} has both USE_TLS and USE_SSL.",
                    hint="USE_TLS (STARTTLS) is usual on port 587, USE_SSL on port 465; keep one.",
                    id="notifications.E051",
                )
            )
        return found


# -- the session ---------------------------------------------------------------------------


class SmtpSession(Session[Email]):
    """One connection, opened when the first message comes and again when it was lost."""

    def __init__(self, provider: Smtp) -> None:
        self._provider = provider
        self._client: smtplib.SMTP | None = None
        self._wire: Wire | None = None
        self._aborted = False

    def send(self, message: Email) -> Outcome:
        """Send one message and tell what came of it."""
        lane = _OneMessage(message)
        self.work(lane)
        assert lane.outcome is not None
        return lane.outcome

    def work(self, lane: Lane[Email]) -> None:
        """Send until the lane closes."""
        while (message := lane.take()) is not None:
            try:
                wire = self._wire or self._open()
            except (smtplib.SMTPException, OSError, Broken) as error:
                lane.report(message, self._provider.judge(error))
                continue
            try:
                Conversation(wire, lane).carry_on(message)
            except Broken:
                self._drop()
            else:
                return

    def abort(self) -> None:
        """Cut the connection under the thread that uses it."""
        self._aborted = True
        sock = None if self._client is None else self._client.sock
        if sock is not None:
            cut(sock)

    def close(self) -> None:
        """QUIT, and close."""
        if self._wire is not None and not self._aborted:
            with suppress(Broken, OSError):  # it may be gone: the goodbye is a courtesy
                self._wire.quit()
        self._drop()

    def _drop(self) -> None:
        client, self._client, self._wire = self._client, None, None
        if client is not None:
            client.close()

    def _open(self) -> Wire:
        """Connect, greet, encrypt, log in. Raises SMTPException, OSError or Broken."""
        options = self._provider.read_options()
        tls = _tls_context(options) if options.use_tls or options.use_ssl else None
        client = self._client = smtplib.SMTP(local_hostname=DNS_NAME.get_fqdn())
        try:
            # Not client.connect(): it keeps the socket to itself until the server has greeted,
            # and a server that never does must be cut off by `abort`.
            client.sock = socket.create_connection((options.host, options.port), options.timeout)
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None and options.use_ssl:
                client.sock = tls.wrap_socket(client.sock, server_hostname=options.host)
            if self._aborted:
                raise Broken("disconnected", "the time for this call is over")
            code, words = client.getreply()
            if code != 220:
                raise smtplib.SMTPConnectError(code, words)
            client.ehlo_or_helo_if_needed()
            if tls is not None and options.use_tls:
                _start_tls(client, tls, options.host)
            if options.user and options.password:
                client.login(options.user, options.password)
            self._wire = Wire(client, pipelining=options.pipelining)
        except BaseException:
            self._drop()
            raise
        return self._wire


def _tls_context(options: Options) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.cafile)
    if options.certfile:
        context.load_cert_chain(options.certfile, options.keyfile)
    return context


def _start_tls(client: smtplib.SMTP, tls: ssl.SSLContext, host: str) -> None:
    """What `client.starttls` does, with the host's name, which it knows only if it connected."""
    if not client.has_extn("starttls"):
        raise smtplib.SMTPNotSupportedError("STARTTLS extension not supported by server.")
    code, words = client.docmd("STARTTLS")
    if code != 220:
        raise smtplib.SMTPResponseException(code, words)
    assert client.sock is not None
    client.sock = tls.wrap_socket(client.sock, server_hostname=host)
    # What came before the encryption is forgotten (RFC 3207 §4.2), unread bytes as well.
    client.file = None
    client.helo_resp = client.ehlo_resp = None
    client.esmtp_features, client.does_esmtp = {}, False
    client.ehlo_or_helo_if_needed()


class _OneMessage:
    """A lane with one message in it."""

    def __init__(self, message: Email) -> None:
        self._waiting: Email | None = message
        self.outcome: Outcome | None = None

    def take(self, *, wait: bool = True) -> Email | None:
        message, self._waiting = self._waiting, None
        return message

    def begin(self, message: Email) -> None:
        """Nobody is watching."""

    def report(self, message: Email, outcome: Outcome) -> None:
        self.outcome = outcome

    def give_back(self, message: Email) -> None:
        self._waiting = message
