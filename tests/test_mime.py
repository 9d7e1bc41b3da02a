"""What the lean builder writes, Python's own parser reads back unchanged."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import default
from email.utils import parsedate_to_datetime, unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notifications.errors import InvalidMessage
from notifications.message import Attachment, Email
from notifications.providers import mime

# One clean line: any character that a header may hold.
lines = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\u2028\u2029"), max_size=200
)
bodies = st.text(st.characters(exclude_categories=("Cs",)), max_size=2000)
names = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\u2028\u2029"),
    min_size=1,
    max_size=120,
)


def email(**changes: object) -> Email:
    given: dict[str, object] = {
        "id": 7,
        "to": "ann@example.com",
        "sender": "Shop <shop@example.com>",
        "subject": "Your order",
        "text": "Hello\n",
        "message_id": "<7.18c@example.com>",
    }
    return Email(**(given | changes))  # type: ignore[arg-type]


def parse(raw: bytes) -> EmailMessage:
    """The message as Python reads it, with nothing in it to complain of."""
    message = message_from_bytes(raw, policy=default)
    assert raw.isascii()
    assert not re.search(rb"[^\r]\n|\r[^\n]", raw), "a line that does not end with CRLF"
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    for part in message.walk():
        assert part.defects == []
        for name, value in part.items():
            assert value.defects == (), name
    return message


def header_lines(raw: bytes) -> list[bytes]:
    return raw.partition(b"\r\n\r\n")[0].split(b"\r\n")


def content_of(part: EmailMessage) -> str:
    content: str = part.get_content()
    return content.replace("\r\n", "\n")


def normal(text: str) -> str:
    """`text` with the line ends that a mail has, as Python's parser gives them back."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


# -- headers --------------------------------------------------------------------------------


@given(lines)
@example("plain")
@example("")
@example("Grüße aus Köln, Ihre Bestellung")
@example(" leading and trailing ")
@example("a  double   blank")
@example("=?utf-8?q?not_encoded?=")
@example("word " * 60)
@example("ü" * 300)
@example("x" * 998)
@example("x" * 3000)
@example("日本語の件名" * 20)
@example("👩‍👩‍👧‍👦 family " * 12)
@example("underscore_and=equals?and.dots~")
@settings(max_examples=300, deadline=None)
def test_a_subject_comes_out_as_it_went_in(subject: str) -> None:
    raw = mime.build(email(subject=subject))
    assert parse(raw)["Subject"] == subject
    for line in header_lines(raw):
        assert len(line) <= 78 or b" " not in line.strip(), line


@given(lines.filter(str.strip))
@settings(max_examples=100, deadline=None)
def test_a_header_of_ones_own_comes_out_as_it_went_in(value: str) -> None:
    assert parse(mime.build(email(headers={"X-Order": value})))["X-Order"] == value


@given(names.filter(lambda name: name.strip() == name and "=?" not in name))
@example("O'Brien, Ann")
@example('Ann "the Hammer" O\\Brien')
@example("Jörg Müller")
@example("Müller, Jörg <chief>")
@example("Ann  Example")
@example("Ann \xa0Example")
@example("very long name " * 6 + "end")
@example("Größe " * 20 + "!")
@settings(max_examples=200, deadline=None)
def test_a_display_name_comes_out_as_it_went_in(name: str) -> None:
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    raw = mime.build(email(sender=f"{quoted} <shop@example.com>"))
    (address,) = parse(raw)["From"].addresses
    assert address.addr_spec == "shop@example.com"
    # The parser keeps the blanks between two encoded words of a phrase, which RFC 2047 §6.2 drops,
    # and makes one of several in a word; `decode_header` does as the RFC says.
    if b"=?utf-8?" in raw:
        phrase = raw[: raw.index(b" <shop@")].removeprefix(b"From: ").decode("ascii")
        assert str(make_header(decode_header(phrase))) == name
    else:
        assert address.display_name == name
    for line in header_lines(raw):
        assert len(line) <= 78 or b" " not in line.strip(), line


@pytest.mark.parametrize(
    ("header", "addresses"),
    [
        ("ann@example.com", ["ann@example.com"]),
        ("Ann <ann@example.com>", ["Ann <ann@example.com>"]),
        ("ann@example.com, Bob <bob@example.org>", ["ann@example.com", "Bob <bob@example.org>"]),
        ('"O\'Brien, Ann" <ann@example.com>', ['"O\'Brien, Ann" <ann@example.com>']),
        ("Ann <ann@EXAMPLE.com>", ["Ann <ann@example.com>"]),
        ("ann@straße.example", ["ann@xn--strae-oqa.example"]),
        ("=?utf-8?q?J=C3=B6rg?= <j@example.com>", ["Jörg <j@example.com>"]),
        ('"a b"@example.com', ['"a b"@example.com']),
    ],
)
def test_address_headers_are_read_and_written(header: str, addresses: list[str]) -> None:
    message = parse(mime.build(email(to_header=header, reply_to=[header], cc_header=header)))
    for name in ("To", "Cc", "Reply-To"):
        assert [str(address) for address in message[name].addresses] == addresses


def test_a_hundred_recipients_fold_over_many_lines() -> None:
    header = ", ".join(f"Person number {n} <person{n}@example.com>" for n in range(100))
    raw = mime.build(email(to_header=header))
    assert len(parse(raw)["To"].addresses) == 100
    assert max(map(len, header_lines(raw))) <= 78


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nobody",
        "a@",
        "@example.com",
        "Ann@Home <ann@example.com>",
        "O'Brien, Ann <ann@example.com>",
        "jörg@example.com",
        "ann@exa mple.com",
        "ann@-\u200d.example",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidMessage):
        mime.build(email(sender=address))
    with pytest.raises(InvalidMessage):
        mime.bare_address(address, name="To")


@pytest.mark.parametrize(
    "evil", ["\r\n", "\n", "\r", "\0", "\x0b", "\x7f", "\x85", "\u2028", "\ud800"]
)
@pytest.mark.parametrize(
    "place",
    [
        "subject",
        "sender",
        "to",
        "to_header",
        "cc_header",
        "message_id",
        "reply_to",
        "name",
        "header",
    ],
)
def test_no_header_can_be_smuggled_in(place: str, evil: str) -> None:
    value = f"a{evil}Bcc: eve@example.com"
    address = f"ann@example.com{evil}Bcc: eve@example.com"
    changes: dict[str, object] = {
        "subject": {"subject": value},
        "message_id": {"message_id": value},
        "reply_to": {"reply_to": (address,)},
        "header": {"headers": {"X-Order": value}},
        "name": {"attachments": (Attachment(value, b""),)},
    }.get(place, {place: address})
    with pytest.raises(InvalidMessage):
        mime.build(email(**changes))


def test_encoded_words_smuggle_nothing_either() -> None:
    with pytest.raises(InvalidMessage):
        mime.build(email(sender="=?utf-8?q?a=0D=0ABcc:_eve=40example.com?= <shop@example.com>"))


@pytest.mark.parametrize(
    "name", ["Bcc", "to", "From", "Content-Type", "X Order", "X:Order", "Ünique", "", "X-Order\n"]
)
def test_a_header_of_ones_own_has_a_free_name(name: str) -> None:
    with pytest.raises(InvalidMessage):
        mime.build(email(headers={name: "value"}))


def test_the_fixed_headers_are_there_once() -> None:
    message = parse(mime.build(email(headers={"List-Unsubscribe": "<https://example.com/u>"})))
    assert message["Message-ID"] == "<7.18c@example.com>"
    assert message["X-Notification-Id"] == "7"
    assert message["MIME-Version"] == "1.0"
    assert message["List-Unsubscribe"] == "<https://example.com/u>"
    assert datetime.now(UTC) - parsedate_to_datetime(message["Date"]) < timedelta(minutes=1)
    assert len(message.keys()) == len({name.lower() for name in message.keys()})  # noqa: SIM118


def test_a_date_of_ones_own_stands_alone() -> None:
    given = "Mon, 01 Jan 2024 10:00:00 +0000"
    assert parse(mime.build(email(headers={"Date": given}))).get_all("Date") == [given]


# -- bodies ---------------------------------------------------------------------------------


@given(text=bodies.filter(bool), html=bodies)
@example(text="Hello\n", html="")
@example(text=".\n..\n.end", html="<p>.</p>\n.\n")
@example(text="From here\nFrom there\n", html="")
@example(text="trailing blanks  \t\nand more \n", html="<p>é </p> \n")
@example(text="x" * 5000, html="<b>" + "é" * 5000 + "</b>")
@example(text="a\rb\r\nc\n\rd", html="a\rbé\r\nc\n\rd")
@example(text="nul \0 and \x1b escape", html="")
@example(text="日本語" * 400, html="日本語" * 400)
@example(text="=3D =\n= soft", html="=é=\n")
@example(text="\n\n\n", html="\n")
@settings(max_examples=300, deadline=None)
def test_bodies_come_out_as_they_went_in(text: str, html: str) -> None:
    message = parse(mime.build(email(text=text, html=html)))
    if not html:
        assert message.get_content_type() == "text/plain"
        # A mail that is one body ends with a line break, with or without us (RFC 5321 §4.1.1.4).
        assert content_of(message).rstrip("\n") == normal(text).rstrip("\n")
        return
    assert message.get_content_type() == "multipart/alternative"
    plain, rich = message.iter_parts()
    assert (plain.get_content_type(), rich.get_content_type()) == ("text/plain", "text/html")
    assert content_of(plain) == normal(text)
    assert content_of(rich) == normal(html)


def test_html_alone_needs_no_multipart() -> None:
    message = parse(mime.build(email(text="", html="<p>Grüße</p>")))
    assert message.get_content_type() == "text/html"
    assert content_of(message).strip() == "<p>Grüße</p>"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain\nASCII\n", "7bit"),
        ("a line of " + "x" * 988, "7bit"),
        ("a line of " + "x" * 989, "quoted-printable"),
        ("Grüße an alle, die das hier lesen können und mögen", "quoted-printable"),
        ("Привет, как дела? Всё хорошо.", "base64"),
        ("a bell \a rings in a longer line of plain text", "quoted-printable"),
    ],
)
def test_the_transfer_encoding_suits_the_text(text: str, encoding: str) -> None:
    assert parse(mime.build(email(text=text)))["Content-Transfer-Encoding"] == encoding


def test_a_mail_without_a_body_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="text"):
        mime.build(email(text=""))


def test_half_a_character_in_a_body_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="surrogate"):
        mime.build(email(text="half \ud83d of it"))


# -- attachments ----------------------------------------------------------------------------


# Python's parser takes quotes and angle brackets off a name (email.utils.unquote).
@given(names.filter(lambda name: unquote(name.strip()) == name), st.binary(max_size=500))
@example("invoice.pdf", b"%PDF")
@example("Rechnung März.pdf", b"")
@example('a "quoted" name\\.txt', b"x")
@example("x" * 300 + ".pdf", b"x")
@example("größer " * 30 + ".pdf", b"x")
@example("=?utf-8?q?x?=.txt", b"x")
@example("100% sure; really.txt", b"x")
@settings(max_examples=200, deadline=None)
def test_an_attachment_comes_out_as_it_went_in(name: str, content: bytes) -> None:
    raw = mime.build(email(attachments=(Attachment(name, content, "application/pdf"),)))
    message = parse(raw)
    assert message.get_content_type() == "multipart/mixed"
    _body, attached = message.iter_parts()
    assert attached.get_filename() == name
    assert attached.get_content() == content
    assert attached.get_content_type() == "application/pdf"
    assert attached.get_content_disposition() == "attachment"


def test_a_whole_mail_nests_as_clients_expect() -> None:
    message = parse(
        mime.build(
            email(
                html='<img src="cid:logo">',
                attachments=(
                    Attachment("a.txt", "Größe".encode(), "text/plain"),
                    Attachment("logo.png", b"\x89PNG", "image/png", "logo"),
                    Attachment("mail.eml", b"From: a@example.com\n\nhi", "message/rfc822"),
                    Attachment("b.ics", b"BEGIN:VCALENDAR", "text/calendar; method=REQUEST"),
                ),
            )
        )
    )
    body, text, mail, calendar = message.iter_parts()
    assert body.get_content_type() == "multipart/alternative"
    plain, related = body.iter_parts()
    html, logo = related.iter_parts()
    assert (plain.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert logo["Content-ID"] == "<logo>"
    assert logo.get_content() == b"\x89PNG"
    assert logo.get_content_disposition() == "inline"
    assert text.get_content() == "Größe"
    assert mail.get_content_type() == "application/octet-stream"
    assert calendar.get_param("method") == "REQUEST"
    assert message.get_body(("html",)).get_content_type() == "text/html"


def test_a_picture_without_html_to_show_it_is_an_attachment() -> None:
    message = parse(
        mime.build(email(attachments=(Attachment("l.png", b"x", "image/png", "logo"),)))
    )
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "image/png"]


@pytest.mark.parametrize("mimetype", ["pdf", "a/b\r\nX: y", "a/b; x", "text/plain\n"])
def test_what_is_no_media_type_is_refused(mimetype: str) -> None:
    with pytest.raises(InvalidMessage, match="type"):
        mime.build(email(attachments=(Attachment("a", b"", mimetype),)))


def test_no_part_can_end_the_part_it_is_in() -> None:
    first = mime.build(email(html="<p>x</p>"))
    boundary = parse(first).get_boundary()
    again = mime.build(email(text=f"--{boundary}--\n", html=f"--{boundary}\nContent-Type: x\n\n"))
    assert parse(again).get_boundary() != boundary
    assert len(list(parse(again).iter_parts())) == 2
