"""What is kept for people to read holds no personal data and no secret."""

from __future__ import annotations

import traceback

import pytest

from notifications.redaction import describe, read_traceback, safe_traceback, scrub, unquote


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("550 <ann.lee@example.com>: unknown", "550 <address>: unknown"),
        ("call +49 170 1234567 now", "call <number> now"),
        ("GET https://x.example/r?token=abc now", "GET https://x.example/r?<query> now"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer <secret>"),
        ("key SG.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b", "key <token>"),
        ("two\nlines\r\nhere", "two lines here"),
        ("mailbox full, try again later", "mailbox full, try again later"),
    ],
)  # fmt: skip
def test_scrub(text: str, scrubbed: str) -> None:
    assert scrub(text) == scrubbed


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("spam: 'Your code is 481516', go away", "spam: … go away"),
        ("code 481516 again", "code … again"),
        ("bad word XKCD here", "bad word … here"),
        ("your code has no user", "your code has no user"),
        ("550 no such user here", "550 no such user here"),
        ("", ""),
    ],
)
def test_what_is_quoted_of_a_message_is_left_out(text: str, rest: str) -> None:
    assert unquote(text, ["Your code is 481516.", "<p>XKCD user</p> here"]) == rest


def test_a_long_text_is_cut() -> None:
    assert len(scrub("word " * 1000)) == 300


def test_a_traceback_keeps_the_places_and_loses_the_values() -> None:
    def fail(address: str) -> None:
        raise ValueError(f"cannot write to {address}")

    with pytest.raises(ValueError, match="cannot write") as caught:
        fail("ann@example.com")
    assert describe(caught.value) == "ValueError: cannot write to <address>"
    told = safe_traceback(caught.value)
    assert "in fail" in told
    assert "ann@example.com" not in told.replace('fail("ann@example.com")', "")


ANN = "ann@example.com"


def bill(address: str) -> None:
    try:
        raise KeyError(f"{address} has\nno account: {address}\n    key {address}\n  File {address}")
    except KeyError as error:
        raise ValueError(f"cannot bill {address}\nDETAIL: {address}") from error


def written(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    assert text.count(ANN) > 5
    return text


def test_of_a_written_traceback_places_and_classes_stay_and_one_scrubbed_line() -> None:
    with pytest.raises(ValueError, match="cannot bill") as caught:
        bill(ANN)
    trace = read_traceback(written(caught.value))
    assert (trace.kind, trace.message) == ("ValueError", "ValueError: cannot bill <address>")
    assert ANN not in trace.places
    assert "in bill\n    raise KeyError(" in trace.places
    assert "\nKeyError\nThe above exception was the direct cause" in trace.places


def test_of_an_exception_group_no_word_stays_either() -> None:
    def bill_all(addresses: list[str]) -> None:
        try:
            bill(addresses[0])
        except ValueError as error:
            raise ExceptionGroup(f"none of {addresses}", [error]) from None

    with pytest.raises(ExceptionGroup) as caught:
        bill_all([ANN])
    trace = read_traceback(written(caught.value))
    assert ANN not in trace.places + trace.message
    assert "in bill_all" in trace.places
    assert "in bill\n" in trace.places


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", "", ""),
        ("Work-horse terminated; a@b.c", "", "Work-horse terminated; <address>"),
        ('Traceback (most recent call last):\n  File "a.py", line 1, in f\nE', "E", "E"),
    ],
)
def test_what_is_no_traceback_is_a_message(text: str, kind: str, message: str) -> None:
    trace = read_traceback(text)
    assert (trace.kind, trace.message) == (kind, message)
