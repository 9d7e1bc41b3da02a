"""Any Django email backend as a provider, those of Anymail included.

    "sendgrid": {
        "BACKEND": "notifications.providers.django_email.DjangoEmail",
        "OPTIONS": {"BACKEND": "anymail.backends.sendgrid.EmailBackend", "api_key": …},
    }

Every other option goes to the backend as a keyword argument; where that is one of Anymail's, to its
webhook as well (`webhook_secret`, `signing_secret` and the like). A session keeps one backend
object open. Errors are judged by the code that came with them: an SMTP answer's, an HTTP status.
Without one it matters whether anything had been sent; a provider that cannot tell may have it.
"""

from __future__ import annotations

import smtplib
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from email.encoders import encode_base64
from email.mime.base import MIMEBase
from functools import partial
from typing import Any

import requests
from anymail.backends.base import AnymailBaseBackend
from anymail.exceptions import (
    AnymailAPIError,
    AnymailInvalidAddress,
    AnymailRecipientsRefused,
    AnymailSerializationError,
    AnymailUnsupportedFeature,
)
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend as SmtpBackend
from django.utils.module_loading import import_string

from notifications.errors import InvalidMessage
from notifications.message import Attachment, Email, Outcome, Report, Verdict
from notifications.providers import anymail_callbacks, mime
from notifications.providers.base import Callback, Lane, Provider, Session
from notifications.providers.http_replies import judge_status, read_message
from notifications.providers.http_wire import Wire, judge_network
from notifications.providers.mail_servers import server_of
from notifications.providers.smtp_replies import (
    Reply,
    judge_connection,
    judge_reply,
)
from notifications.providers.sockets import cut
from notifications.redaction import blot, describe, unquote

IDLE = 1.0  # seconds after which an SMTP connection is asked whether it still lives

NOT_SENT = Outcome(
    Verdict.LATER, code="not_sent", text="the backend did not send it, and raised nothing"
)
_OURS = "notifications.backends.QueuedEmailBackend"
_NEVER = (
    AnymailInvalidAddress,
    AnymailRecipientsRefused,
    AnymailSerializationError,
    AnymailUnsupportedFeature,
)


class DjangoEmail(Provider[Email]):
    """An email backend of Django's. OPTIONS: BACKEND, its dotted path, and its arguments."""

    channels = ("email",)

    def __init__(self, name: str, *, timeout: float, options: Mapping[str, Any]) -> None:
        super().__init__(name, timeout=timeout, options=options)
        # Anymail says at each new backend that it no longer tests this one. We do.
        warnings.filterwarnings(
            "ignore", "django-anymail has dropped official support for SendGrid"
        )

    def connect(self) -> DjangoEmailSession:
        """A session with an open backend. Raises what the backend raises."""
        return DjangoEmailSession(self)

    @property
    def secrets(self) -> list[str]:
        """What must be in no text: keys and passwords among the options."""
        return [
            str(value)
            for name, value in self.options.items()
            if name != "BACKEND" and isinstance(value, str) and len(value) > 5
        ]

    @property
    def service(self) -> str:
        """See Provider. Empty where a subclass checks callbacks by itself: what Anymail lets in
        under its own URLs must not go past that check."""
        return self._esp_name if type(self).receive is DjangoEmail.receive else ""

    @property
    def _esp_name(self) -> str:
        """What Anymail calls the service of its backend; empty for other backends."""
        try:
            return str(getattr(import_string(self.options["BACKEND"]), "esp_name", ""))
        except (ImportError, KeyError):
            return ""

    @property
    def server(self) -> str:
        """That of its backend."""
        return server_of(str(self.options.get("BACKEND", "")), self.options)

    @property
    def _arguments(self) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if name != "BACKEND"}

    def receive(self, callback: Callback) -> Sequence[Report] | str:
        """What Anymail's own webhook makes of it; other backends have none."""
        return anymail_callbacks.receive(callback, service=self._esp_name, options=self._arguments)

    def make_backend(self) -> BaseEmailBackend:
        """A new backend object, not open yet. Raises ImproperlyConfigured."""
        arguments = {**self._arguments, "fail_silently": False}
        try:
            path = self.options["BACKEND"]
        except KeyError:
            raise ImproperlyConfigured(
                f"The provider {self.name!r} lacks OPTIONS['BACKEND']."
            ) from None
        backend: Any = get_connection(path, **arguments)
        # SMTP and HTTP backends have it; a single silent read ends before the whole call must.
        longest = self.timeout * 0.9
        if hasattr(backend, "timeout"):
            backend.timeout = min(backend.timeout or longest, longest)
        made: BaseEmailBackend = backend
        return made

    def judge(self, error: Exception) -> Outcome:
        """The outcome of an error while connecting; nothing was handed over."""
        if isinstance(error, ImproperlyConfigured | ImportError | TypeError):
            return Outcome(
                Verdict.HOLD, code="setup", text=describe(error), theirs=True,
                error=type(error).__qualname__,
            )  # fmt: skip
        outcome = judge_connection(error)
        return replace(outcome, text=blot(outcome.text, self.secrets))

    def check(self) -> list[CheckMessage]:
        """Errors for a BACKEND that is missing, unknown, or queues what it is given, and for an
        address of Anymail's at which anybody may report."""
        path = str(self.options.get("BACKEND", ""))
        problem = hint = ""
        if not path:
            problem = "has no BACKEND in its OPTIONS"
            hint = "Name a Django email backend, such as anymail.backends.sendgrid.EmailBackend."
        elif path == _OURS:
            problem = "sends through the backend that queues"
            hint = "Name the backend that sends; what is sent would be queued again for ever."
        else:
            try:
                import_string(path)
            except ImportError as error:
                problem = f"has a BACKEND that cannot be imported: {error}"
                hint = "Write its dotted path, and install the package it is in."
        if problem:
            text = f"The provider {self.name!r} {problem}."
            return [Error(text, hint=hint, id="notifications.E052")]
        return list(self._check_addresses())

    def _check_addresses(self) -> Iterator[CheckMessage]:
        for address in anymail_callbacks.open_addresses(self._esp_name):
            yield Error(
                f"At {address} anybody may report what became of mails that the provider "
                f"{self.name!r} sent.",
                hint='Leave include("anymail.urls") out, since reports are taken at '
                f'webhooks/{self.name}/ of notifications.urls; or set ANYMAIL["WEBHOOK_SECRET"].',
                id="notifications.E053",
            )


class DjangoEmailSession(Session[Email]):
    """One backend object, kept open."""

    def __init__(self, provider: DjangoEmail) -> None:
        self._provider = provider
        self._wire = Wire()
        self._backend: Any = provider.make_backend()
        self._used = time.monotonic()
        self._failed = False  # the last call, and the backend may have left things half done
        self._aborted = False
        self._open()

    def work(self, lane: Lane[Email]) -> None:
        """Send until the lane closes."""
        while (message := lane.take()) is not None:
            lane.report(message, self._send(message, partial(lane.begin, message)))

    def send(self, message: Email) -> Outcome:
        """Send one message and tell what came of it."""
        return self._send(message, lambda: None)

    def abort(self) -> None:
        """Cut the connection under the thread that uses it."""
        self._aborted = True
        self._wire.cut()
        client = getattr(self._backend, "connection", None)
        if isinstance(client, smtplib.SMTP) and client.sock is not None:
            cut(client.sock)

    def close(self) -> None:
        """Close the backend."""
        with suppress(Exception):  # whatever a backend raises: we are done with it
            self._backend.close()

    def _send(self, message: Email, begin: Callable[[], None]) -> Outcome:
        try:
            mail = to_django(message, anymail=isinstance(self._backend, AnymailBaseBackend))
        except InvalidMessage as error:
            text = describe(error)
            return Outcome(Verdict.PERMANENT, code="invalid", text=text, error="InvalidMessage")
        try:
            self._revive()
        except Exception as error:
            return self._provider.judge(error)
        # Over HTTP the wire says when the first byte goes; another backend may begin at any time.
        tells = self._tells_when_it_begins
        self._wire.reset(begin if tells else None)
        if not tells:
            begin()
        try:
            count = self._backend.send_messages([mail])
            self._failed = False
        except Exception as error:
            self._failed = True
            begun = self._wire.begun or not tells
            outcome = judge_sending(error, message, begun=begun, secrets=self._provider.secrets)
        else:
            outcome = _accepted(mail, message) if count else NOT_SENT
        self._used = time.monotonic()
        if self._aborted:  # what was read may be half an answer
            return Outcome(Verdict.UNKNOWN, code="aborted", theirs=True)
        return outcome

    def _open(self) -> None:
        self._backend.open()
        session = getattr(self._backend, "session", None)
        if isinstance(session, requests.Session):
            session.max_redirects = 0  # a mail and its key go to the host that was configured
            self._wire.attach(session)

    @property
    def _tells_when_it_begins(self) -> bool:
        return isinstance(getattr(self._backend, "session", None), requests.Session)

    def _revive(self) -> None:
        """Open an SMTP connection again that was closed since it was last used."""
        if not isinstance(self._backend, SmtpBackend):
            return
        client = self._backend.connection
        if client is not None and client.sock is not None:
            fresh = time.monotonic() - self._used < IDLE and not self._failed
            # Where DATA was refused smtplib leaves MAIL open: RSET, not NOOP.
            if fresh or _answers(client):
                return
        self.close()
        self._open()


def _answers(client: smtplib.SMTP) -> bool:
    try:
        return client.rset()[0] == 250
    except (smtplib.SMTPException, OSError):
        return False


# -- mails ----------------------------------------------------------------------------------


def to_django(message: Email, *, anymail: bool) -> EmailMultiAlternatives:
    """The message as Django's backends take it. Raises InvalidMessage.

    Where Anymail can (`anymail`), the row's id and the kind go along as metadata and tag, by
    which its webhooks report. It cannot show other recipients than those who get the mail.
    """
    mime.check(message)
    headers = {"Message-ID": message.message_id} if message.message_id else {}
    headers |= {"X-Notification-Id": str(message.id), **message.headers}
    if not anymail:
        headers |= {"To": message.to_header} if message.to_header else {}
        headers |= {"Cc": message.cc_header} if message.cc_header else {}
    mail = EmailMultiAlternatives(
        subject=message.subject,
        body=message.text or message.html,
        from_email=message.sender,
        to=[_named(message)],
        reply_to=list(message.reply_to),
        headers=headers,
        attachments=[_attachment(each) for each in message.attachments],
    )
    if not message.text:
        mail.content_subtype = "html"
    elif message.html:
        mail.attach_alternative(message.html, "text/html")
    if anymail:
        extended: Any = mail
        extended.metadata = {"notification_id": str(message.id)}
        if message.category:
            extended.tags = [message.category]
    return mail


def _named(message: Email) -> str:
    """The recipient with the name that the To header gives it."""
    if message.to_header:
        for address in mime.parse_addresses(message.to_header, name="To"):
            if address.display_name and address.addr_spec.lower() == message.to.lower():
                return str(address)
    return message.to


def _attachment(file: Attachment) -> Any:
    if not file.content_id:
        return (file.name, file.content, file.mimetype)
    maintype, _, subtype = file.mimetype.partition("/")
    part = MIMEBase(maintype, subtype)
    part.set_payload(file.content)
    encode_base64(part)
    part.add_header("Content-ID", f"<{file.content_id.strip('<>')}>")
    part.add_header("Content-Disposition", "inline", filename=file.name)
    return part


# -- outcomes -------------------------------------------------------------------------------


def _accepted(mail: EmailMultiAlternatives, message: Email) -> Outcome:
    status = getattr(mail, "anymail_status", None)
    given = getattr(status, "message_id", None)
    response = getattr(status, "esp_response", None)
    if isinstance(response, requests.Response) and response.content.lstrip().startswith(b"<"):
        # A page: somebody else answers at the service's address.
        text = "not an answer of the API"
        return Outcome(Verdict.UNKNOWN, code=str(response.status_code), text=text, theirs=True)
    return Outcome(
        Verdict.ACCEPTED,
        code=str(getattr(response, "status_code", "")),
        message_id=given if isinstance(given, str) else message.message_id,
    )


def judge_sending(
    error: Exception, message: Email, *, begun: bool, secrets: Collection[str] = ()
) -> Outcome:
    """The outcome of an error while sending `message`.

    `begun` is false when surely nothing had gone out. `secrets` are taken out of the text.
    """
    name = type(error).__qualname__
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        ((refusal, words),) = error.recipients.values()
        return replace(judge_reply(_reply(refusal, words), message), error=name)
    if isinstance(error, smtplib.SMTPResponseException):
        reply = _reply(error.smtp_code, error.smtp_error)
        return replace(judge_reply(reply, message), error=name)
    private = [*secrets, message.to, message.subject, message.sender]
    response = getattr(error, "response", None)
    if isinstance(error, AnymailAPIError) and response is not None:
        said = unquote(_words(response), (message.text, message.html))
        text = blot(said, private)
        return replace(judge_status(response.status_code, response.headers, text), error=name)
    text = blot(describe(_cause(error)), private)
    if isinstance(error, requests.TooManyRedirects):
        return Outcome(Verdict.HOLD, code="redirect", text=text, theirs=True, error=name)
    if isinstance(error, _NEVER):
        return Outcome(Verdict.PERMANENT, code="refused", text=text, error=name)
    if isinstance(error, ImproperlyConfigured):
        return Outcome(Verdict.HOLD, code="setup", text=text, theirs=True, error=name)
    return judge_network(
        error, begun=begun, clean=partial(blot, private=private), cause=_cause(error)
    )


def _reply(code: int, words: bytes | str) -> Reply:
    return Reply(code, words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words))


def _words(response: requests.Response) -> str:
    try:
        said = read_message(response.json())
    except ValueError:
        said = ""
    return said or str(response.reason or "")


def _cause(error: Exception) -> BaseException:
    """Anymail's own errors quote the whole request and answer; what caused them does not."""
    return error.__cause__ or error if isinstance(error, AnymailAPIError) else error
