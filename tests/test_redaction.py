"""What is kept for people to read holds no personal data and no secret."""

from __future__ import annotations

import traceback

import pytest
from django.db import DatabaseError, connection
from django.template import Context, Template, VariableDoesNotExist

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


@pytest.mark.parametrize(
    ("said", "private", "rest"),
    [
        ("no customer 'Ann Canary'", [{"name": "Ann Canary"}], "no customer '…'"),
        ("no customer 'ANN'", [{"people": [{"name": "Ann"}]}], "no customer '…'"),
        ("481516 is no code", [{"code": 481516}], "… is no code"),
        ("'ab\\ncd' has two lines", [["ab\ncd"]], "'…' has two lines"),
        ("it said: your parcel is here.", [{"text": "Ann, your parcel is here"}], "it said: …"),
        ("step 7 of True", [{"step": 7, "done": True, "more": None}], "step 7 of True"),
    ],
)  # fmt: skip
def test_an_error_is_told_without_the_values_it_quotes(
    said: str, private: list[object], rest: str
) -> None:
    error = ValueError(said)
    assert describe(error, private=private) == f"ValueError: {rest}"
    assert safe_traceback(error, private=private).endswith(f"ValueError: {rest}")
    assert describe(error, silent=True) == "ValueError"


def test_an_object_among_the_values_is_not_made_to_speak() -> None:
    class Order:
        def __str__(self) -> str:
            raise AssertionError

    assert describe(ValueError("no"), private=[{"order": Order()}]) == "ValueError: no"


def test_of_a_variable_that_a_template_lacks_the_name_is_told_and_not_the_context() -> None:
    context = Context({"name": "Ann Canary", "code": "481516"})
    with pytest.raises(VariableDoesNotExist) as caught:
        Template("{{ name|default:nickname }}").render(context)
    told = "VariableDoesNotExist: Failed lookup for key [nickname]"
    assert describe(caught.value) == told
    assert safe_traceback(caught.value).endswith(told)


@pytest.mark.django_db
@pytest.mark.postgres_only
@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("INSERT INTO auth_group (id, name) VALUES (1, 'Canary'), (2, 'Canary')",
         'IntegrityError: 23505 duplicate key value violates unique constraint "auth_group_name'),
        ("INSERT INTO auth_group (id, name) VALUES (NULL, 'Canary')",
         'IntegrityError: 23502 null value in column "id" of relation "auth_group" violates'),
        ("SELECT 'a \"Canary\" b'::integer",
         'DataError: 22P02 invalid input syntax for type integer: "…"'),
        ("SELECT '{\"a\": Canary}'::json", "DataError: 22P02 invalid input syntax for type json"),
    ],
)  # fmt: skip
def test_of_an_error_of_the_database_the_code_and_the_first_line_are_told(
    query: str, told: str
) -> None:
    with pytest.raises(DatabaseError) as caught, connection.cursor() as cursor:
        cursor.execute(query)
    assert "Canary" in str(caught.value)
    assert describe(caught.value).startswith(told)
    assert (
        describe(caught.value.__cause__ or caught.value).partition(": ")[2]
        == (describe(caught.value).partition(": ")[2])
    )
    assert "Canary" not in describe(caught.value)


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
