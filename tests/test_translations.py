"""The app's German: whole, compiled, and with the same placeholders."""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterator
from pathlib import Path

from django.utils import translation
from django.utils.translation import ngettext
from django.utils.translation.template import templatize

from notifications.models import State

APP = Path(__file__).parent.parent / "notifications"
FOLDER = APP / "locale" / "de" / "LC_MESSAGES"
CALLS = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy"}
SOURCES = [path for path in APP.rglob("*") if path.suffix in {".py", ".html", ".txt"}]
# What Django's own extraction makes of a template.
QUOTED = re.compile(
    r"gettext\(u?(\"{3}.*?\"{3}|'{3}.*?'{3}|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")", re.DOTALL
)


def compiled() -> dict[str, str]:
    """What was asked for, one entry for each form, and what is said."""
    with (FOLDER / "django.mo").open("rb") as file:
        catalog = gettext.GNUTranslations(file)._catalog
    return {key if isinstance(key, str) else key[0]: text for key, text in catalog.items()}


def asked_for(path: Path) -> Iterator[str]:
    """The texts that a file wants translated; of plurals, the singular."""
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in CALLS:
                yield ast.literal_eval(node.args[0])
    else:
        for quoted in QUOTED.findall(templatize(path.read_text())):
            yield ast.literal_eval(quoted)


def test_every_text_is_translated() -> None:
    asked = {text for path in SOURCES for text in asked_for(path)}
    assert asked - compiled().keys() == set()
    assert len(asked) > 400


def test_placeholders_are_the_same() -> None:
    for text, said in compiled().items():
        if text:
            assert sorted(re.findall(r"%\(\w+\)\w|%[sd]", text)) == sorted(
                re.findall(r"%\(\w+\)\w|%[sd]", said)
            ), text


def test_the_compiled_texts_are_those_of_the_readable_ones() -> None:
    readable = (FOLDER / "django.po").read_text()
    strings = re.findall(r'^msgstr(?:\[\d\])? ((?:"(?:[^"\\]|\\.)*"\n?)+)', readable, re.MULTILINE)
    said = {"".join(ast.literal_eval(line) for line in each.splitlines()) for each in strings}
    assert "" not in said
    assert set(compiled().values()) <= said


def test_it_is_spoken() -> None:
    with translation.override("de"):
        assert State.DELIVERED.label == "zugestellt"
        assert ngettext("%(count)d attempt", "%(count)d attempts", 2) == "%(count)d Versuche"
