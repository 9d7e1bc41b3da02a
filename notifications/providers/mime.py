"""An email as the bytes that travel: RFC 5322 and MIME, built without an object tree.

Python's `email` package takes 0.2-0.8 ms a message, most of what sending one costs. This builder
writes the same thing straight away, for the few shapes that mail of a shop has:

    mixed( alternative( text, related( html, inline files ) ), files )

with each level only where it is needed. Everything is 7-bit: what is not becomes quoted-printable
or base64, whichever is shorter, so that no server needs 8BITMIME or SMTPUTF8.
"""

from __future__ import annotations

import re
import time
from binascii import b2a_base64, b2a_qp
from collections.abc import Callable, Iterable
from email.errors import InvalidHeaderDefect
from email.headerregistry import Address
from email.policy import default as modern
from email.utils import formatdate
from functools import lru_cache
from os import urandom
from typing import Any
from urllib.parse import quote

import idna

from notifications.errors import InvalidMessage
from notifications.message import Attachment, Email

LINE = 78  # characters a line should have at most (RFC 5322 §2.1.1) ...
LONGEST = 998  # ... and must have at most
ENCODED_WORD = 75  # characters an encoded word may have at most (RFC 2047 §2)

# What a header or an address must not hold: control characters (C0, DEL, C1), the separators that
# some programs take for line breaks, and halves of surrogate pairs, which have no bytes.
FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_HEADER_NAME = re.compile(r"[!-9;-~]{1,70}")  # RFC 5322 §2.2: printable ASCII without the colon
_NOT_7BIT = re.compile(r"[^\t\r\n\x20-\x7e]")
_LONG_LINE = re.compile(rf"[^\r\n]{{{LONGEST + 1}}}")
_LINE_END = re.compile(r"\r\n|\r|\n")
# A display name that needs no quotes: words with one blank between them.
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
# An address that reads the same everywhere: a dot-atom and a lower-case ASCII domain.
_SIMPLE_ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[a-z0-9.-]{1,255}"
)
_MIMETYPE = re.compile(
    r"[\w.+-]+/[\w.+-]+(?:\s*;\s*[\w.-]+=(?:[\w.:+-]+|\"[^\"\\\r\n]*\"))*", re.ASCII
)

# Headers that the builder writes itself; a kind or a caller cannot add them.
OWN_HEADERS = frozenset(
    (
        "from", "to", "cc", "bcc", "reply-to", "subject", "message-id", "mime-version",
        "content-type", "content-transfer-encoding", "content-disposition", "x-notification-id",
    )
)  # fmt: skip


def build(email: Email) -> bytes:
    """The message as it goes over the wire, lines ended by CRLF, before dots are stuffed.

    Raises InvalidMessage for line breaks in headers and addresses that cannot be read.
    """
    if not (email.text or email.html):
        raise InvalidMessage("An email needs a text, an HTML body, or both.")
    names = {name.lower() for name in email.headers}
    lines = [
        address_header("From", email.sender),
        address_header("To", email.to_header or email.to),
    ]
    if email.cc_header:
        lines.append(address_header("Cc", email.cc_header))
    if email.reply_to:
        lines.append(address_header("Reply-To", ", ".join(email.reply_to)))
    lines.append(header("Subject", email.subject))
    if email.message_id:
        lines.append(header("Message-ID", email.message_id))
    if "date" not in names:
        lines.append(f"Date: {_date(int(time.time()))}\r\n")
    lines.append(f"X-Notification-Id: {email.id}\r\n")
    for name, value in email.headers.items():
        check_header(name, value)
        lines.append(header(name, value))
    lines.append("MIME-Version: 1.0\r\n")
    return "".join([*lines, _body(email)]).encode("ascii")


# -- headers --------------------------------------------------------------------------------


def header(name: str, value: str) -> str:
    """One header with its line end, folded and encoded where it must be.

    ASCII stays readable; anything else becomes encoded words (RFC 2047). Raises InvalidMessage.
    """
    refuse_control_characters(name, value)
    line = f"{name}: {value}"
    if value.isascii() and "=?" not in value and value.strip() == value:
        if len(line) <= LINE:
            return f"{line}\r\n"
        folded = _fold(line)
        if folded is not None:
            return folded
    words = encoded_words(value, first=len(name) + 2)
    return f"{name}: " + "\r\n ".join(words) + "\r\n"


def check(email: Email) -> None:
    """Raise InvalidMessage for what no provider may be given.

    Services behind an API take what they get, line breaks in a subject or an address included.
    """
    refuse_control_characters("The subject", email.subject)
    refuse_control_characters("The Message-ID", email.message_id)
    bare_address(email.to, name="To")
    bare_address(email.sender, name="From")
    if email.to_header:
        parse_addresses(email.to_header, name="To")
    if email.cc_header:
        parse_addresses(email.cc_header, name="Cc")
    for each in email.reply_to:
        parse_addresses(each, name="Reply-To")
    for name, value in email.headers.items():
        check_header(name, value)
    for file in email.attachments:
        refuse_control_characters("The name of an attachment", file.name)
        refuse_control_characters("A Content-ID", file.content_id)
        check_mimetype(file.mimetype)


def check_header(name: str, value: str) -> None:
    """Raise InvalidMessage if this is no header that a kind or a caller may add."""
    if not _HEADER_NAME.fullmatch(name):
        raise InvalidMessage(f"{name[:70]!r} is no name for a header.")
    if name.lower() in OWN_HEADERS:
        raise InvalidMessage(f"The header {name} has a place of its own in an email.")
    refuse_control_characters(f"The header {name}", value)


def check_mimetype(mimetype: str) -> None:
    """Raise InvalidMessage if this is no media type such as image/png."""
    if not _MIMETYPE.fullmatch(mimetype):
        raise InvalidMessage(f"An attachment's type is {mimetype[:70]!r}; write it as image/png.")


def refuse_control_characters(name: str, value: str) -> None:
    """Raise InvalidMessage if `value`, called `name`, is not one clean line."""
    if FORBIDDEN.search(value):
        raise InvalidMessage(f"{name} must be one line without control characters.")


def encoded_words(value: str, *, first: int) -> list[str]:
    """`value` as RFC 2047 encoded words, each for a line; `first` columns are taken already."""
    both = [list(_split_words(value, encode, first=first)) for encode in (_q_word, _b_word)]
    return min(both, key=lambda words: sum(map(len, words)))


def _split_words(value: str, encode: Callable[[str], str], *, first: int) -> Iterable[str]:
    """Encoded words, split between characters (RFC 2047 §5: none may be cut in two)."""
    room = min(ENCODED_WORD, LINE - first)
    while value:
        count = min(len(value), room)
        word = encode(value[:count])
        while len(word) > room and count > 1:
            # Too long by a known share: shrink by it, at least by one character.
            count = max(1, min(count - 1, count * room // len(word)))
            word = encode(value[:count])
        yield word
        value, room = value[count:], ENCODED_WORD


def _b_word(value: str) -> str:
    return f"=?utf-8?b?{b2a_base64(value.encode(), newline=False).decode('ascii')}?="


_Q_SAFE = "".join(chr(each) for each in range(128) if chr(each).isalnum()) + "!*+-/"


def _q_word(value: str) -> str:
    # quote() knows which bytes are safe and escapes the others as %XX; it never escapes these.
    return f"=?utf-8?q?{quote(value, safe=_Q_SAFE).translate(_Q_MARKS)}?="


# RFC 2047 §5 (3) lets only letters, digits and !*+-/ stand for themselves in a phrase; quote()
# keeps _.~- besides, which mean something else or may not stand there.
_Q_MARKS = {ord("%"): "=", ord("_"): "=5F", ord("."): "=2E", ord("~"): "=7E"}


def _fold(line: str) -> str | None:
    """An ASCII header broken before blanks; None if a piece stays too long, or is all blanks."""
    lines: list[str] = []
    pieces = re.findall(r"\s*\S+", line)
    current = pieces[0]
    if len(pieces) > 1 and len(current) + len(pieces[1]) > LINE:
        # A line with nothing after the header's name is as good as blank (RFC 5322 §2.2.3).
        current += pieces.pop(1)
    for piece in pieces[1:]:
        if len(current) + len(piece) > LINE:
            lines.append(current)
            current = piece
        else:
            current += piece
    lines.append(current)
    if any(len(each) > LONGEST for each in lines):
        return None
    return "\r\n".join(lines) + "\r\n"


# -- addresses ------------------------------------------------------------------------------


def address_header(name: str, value: str) -> str:
    """An address header such as From, encoded, folded, with its line end. Raises InvalidMessage."""
    if _SIMPLE_ADDRESS.fullmatch(value):
        return f"{name}: {value}\r\n"
    return _address_header(name, value)


@lru_cache(maxsize=1024)
def _address_header(name: str, value: str) -> str:
    mailboxes = [_mailbox(each) for each in parse_addresses(value, name=name)]
    folded = _fold(f"{name}: {', '.join(mailboxes)}")
    if folded is None:
        raise InvalidMessage(f"{name} is too long for a mail.")
    return folded


def parse_addresses(value: str, *, name: str) -> tuple[Address, ...]:
    """The addresses of "Ann <ann@example.com>, bob@example.com". Raises InvalidMessage."""
    refuse_control_characters(name, value)
    try:
        parsed: Any = modern.header_factory(name, value)
        addresses: tuple[Address, ...] = parsed.addresses
    except Exception:  # on some nonsense the parser trips over its own feet (IndexError)
        addresses = ()
    # What it had to guess is refused: Ann@Home <ann@example.com> is no mail to Ann@Home.
    if not addresses or any(isinstance(each, InvalidHeaderDefect) for each in parsed.defects):
        raise InvalidMessage(f"{name} holds something that is no email address.")
    if any(not (each.username and each.domain) for each in addresses):
        raise InvalidMessage(f"{name} holds something that is no email address.")
    if any(not each.username.isascii() for each in addresses):
        raise InvalidMessage(f"{name} holds an address with letters before the @ beyond ASCII.")
    return addresses


def bare_address(value: str, *, name: str) -> str:
    """The one address of "Ann <ann@example.com>", its domain as mail servers know it."""
    if _SIMPLE_ADDRESS.fullmatch(value):
        return value
    return _bare_address(value, name=name)


@lru_cache(maxsize=1024)
def _bare_address(value: str, *, name: str) -> str:
    addresses = parse_addresses(value, name=name)
    if len(addresses) != 1:
        raise InvalidMessage(f"{name} must be exactly one address.")
    return _addr_spec(addresses[0])


def _mailbox(address: Address) -> str:
    spec = _addr_spec(address)
    phrase = address.display_name
    if not phrase:
        return spec
    refuse_control_characters("A display name", phrase)  # encoded words may have hidden some
    if not phrase.isascii() or "=?" in phrase:
        phrase = " ".join(encoded_words(phrase, first=len("Reply-To: ")))
    elif not _ATOMS.fullmatch(phrase):
        phrase = '"' + phrase.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{phrase} <{spec}>"


def _addr_spec(address: Address) -> str:
    local = Address(username=address.username, domain="x").addr_spec[:-2]
    return f"{local}@{ascii_domain(address.domain)}"


def ascii_domain(domain: str) -> str:
    """A domain as mail servers know it: lower case, IDNA 2008 (RFC 5891). Raises InvalidMessage."""
    if domain.isascii():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError:
        raise InvalidMessage("A domain in an address is no domain.") from None


# -- bodies ---------------------------------------------------------------------------------


def _body(email: Email) -> str:
    """The content headers, the empty line and the content."""
    inline = [each for each in email.attachments if each.content_id]
    files = [each for each in email.attachments if not each.content_id]
    if not email.html:  # nothing could show them in place
        files, inline = [*inline, *files], []
    parts: list[str] = []
    if email.text:
        parts.append(_text_part("plain", email.text))
    if email.html:
        html = _text_part("html", email.html)
        parts.append(_multipart("related", [html, *map(_file_part, inline)]) if inline else html)
    body = parts[0] if len(parts) == 1 else _multipart("alternative", parts)
    return _multipart("mixed", [body, *map(_file_part, files)]) if files else body


def _multipart(subtype: str, parts: Iterable[str]) -> str:
    # "=_" comes in no quoted-printable and no base64 text (RFC 2045 §6.7), and nobody who writes
    # a part of the message can guess the rest.
    boundary = f"=_{urandom(15).hex()}"
    inner = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts)
    return (
        f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n{inner}--{boundary}--\r\n'
    )


def _text_part(subtype: str, text: str) -> str:
    encoding, content = encode_text(text)
    return (
        f'Content-Type: text/{subtype}; charset="utf-8"\r\n'
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n{content}"
    )


def encode_text(text: str) -> tuple[str, str]:
    """The transfer encoding that suits `text`, and the text in it, lines ended by CRLF."""
    lines = text
    if "\r" in lines:
        lines = _LINE_END.sub("\n", lines)
    lines = lines.replace("\n", "\r\n")
    if lines.isascii() and not _NOT_7BIT.search(lines) and not _LONG_LINE.search(lines):
        return "7bit", lines
    try:
        raw = lines.encode()
    except UnicodeEncodeError:
        raise InvalidMessage("A body holds half a character (a lone surrogate).") from None
    quoted = b2a_qp(raw, quotetabs=False, istext=True)
    if b"\n" not in raw:
        quoted = quoted.replace(b"\n", b"\r\n")  # it learns the line end from the first line
    if len(quoted) * 3 <= len(raw) * 4:
        return "quoted-printable", quoted.decode("ascii")
    return "base64", _base64_lines(raw)


def _base64_lines(raw: bytes) -> str:
    text = b2a_base64(raw, newline=False).decode("ascii")
    return "\r\n".join([text[at : at + 76] for at in range(0, len(text), 76)])


def _file_part(file: Attachment) -> str:
    mimetype = file.mimetype or "application/octet-stream"
    check_mimetype(mimetype)
    kind = mimetype.partition("/")[0].lower()
    if kind in ("message", "multipart"):
        # These may not be in base64 (RFC 2045 §6.4), and what is in them is not ours to rewrite.
        mimetype = "application/octet-stream"
    elif kind == "text" and "charset" not in mimetype.lower() and _is_utf8(file.content):
        mimetype += '; charset="utf-8"'
    content_id = ""
    if file.content_id:
        refuse_control_characters("A Content-ID", file.content_id)
        content_id = header("Content-ID", f"<{file.content_id.strip('<>')}>")
    disposition = "inline" if file.content_id else "attachment"
    return (
        f"{header('Content-Type', mimetype)}"
        f"Content-Transfer-Encoding: base64\r\n{content_id}"
        f"Content-Disposition: {disposition}{_file_name(file.name)}\r\n\r\n"
        f"{_base64_lines(file.content)}"
    )


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _file_name(name: str) -> str:
    """The filename parameter: quoted if it is short ASCII, else as in RFC 2231 §3 and §4."""
    if not name:
        return ""
    refuse_control_characters("The name of an attachment", name)
    if name.isascii() and len(name) <= 60 and "=?" not in name:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return f';\r\n filename="{quoted}"'
    pieces = ["utf-8''"]
    for character in name:  # none is cut in two: each piece can be read on its own
        escaped = quote(character, safe="!#$&+-.^_`{}~")
        if len(pieces[-1]) + len(escaped) > 60:
            pieces.append("")
        pieces[-1] += escaped
    if len(pieces) == 1:
        return f";\r\n filename*={pieces[0]}"
    return "".join(f";\r\n filename*{place}*={piece}" for place, piece in enumerate(pieces))


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, localtime=False).replace("-0000", "+0000")
