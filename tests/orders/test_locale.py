"""The German of the shop is whole, and compiled."""

from __future__ import annotations

import ast
import gettext
import re
from pathlib import Path

from django.conf import settings

FOLDER = Path(settings.LOCALE_PATHS[0]) / "de" / "LC_MESSAGES"
GLOBS = ("templates/**/*.*", "orders/**/*.py", "config/*.py")
NAMES = re.compile(r"%\(\w+\)[sd]|%[sd]")


def entries() -> dict[str, str]:
    """Text by text, from the source of the translation."""
    source = (FOLDER / "django.po").read_text()
    assert "#, fuzzy" not in source
    pairs = re.findall(r'^msgid (".*")\nmsgstr (".*")$', source, re.MULTILINE)
    return {ast.literal_eval(text): ast.literal_eval(german) for text, german in pairs}


def test_nothing_is_left_out() -> None:
    known = entries()
    assert len(known) > 150
    for text, german in known.items():
        if text:
            assert german, text
            assert sorted(NAMES.findall(text)) == sorted(NAMES.findall(german)), text


def test_what_is_compiled_is_what_is_written() -> None:
    with (FOLDER / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for text, german in entries().items():
        if text:
            assert compiled.gettext(text) == german


def test_every_marked_text_has_its_german() -> None:
    """The texts that templates and modules mark, as far as they stand in one piece."""
    known = set(entries())
    marked = set()
    for path in [
        *settings.BASE_DIR.glob("templates/**/*.*"),
        *settings.BASE_DIR.glob("orders/**/*.py"),
    ]:
        source = path.read_text()
        marked |= set(re.findall(r'\{% translate "([^"]+)"', source))
        marked |= set(re.findall(r'\b_\(\s*"([^"]+)"\s*\)', source))
        for block in re.findall(
            r"\{% blocktranslate[^%]*%\}(.*?)\{% endblocktranslate %\}", source, re.DOTALL
        ):
            marked.add(re.sub(r"\{\{ (\w+) \}\}", r"%(\1)s", block))
    assert len(marked) > 150
    assert marked <= known
