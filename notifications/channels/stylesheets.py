"""A stylesheet taken apart: what can stand in an element's style, and what cannot."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_COMMENT = re.compile(r"/\*.*?\*/|<!--|-->", re.DOTALL)
_WORD = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[{};]|[^\"'{};]+|.", re.DOTALL)
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")

# Selectors that ask what the reader does, or for what is no element: no style attribute can.
_OF_THE_MOMENT = re.compile(
    r"::|:(?:hover|active|focus|focus-within|focus-visible|visited|link|any-link|target|checked"
    r"|before|after|first-line|first-letter|selection|placeholder)\b"
)
# Selectors that look at siblings, counts, contents or attributes.
_OF_THE_DOCUMENT = re.compile(r"[+~\[:]")


@dataclass(frozen=True, slots=True)
class Stylesheet:
    """The CSS of a document, in two parts."""

    inline: str  # rules for the elements' own styles
    kept: str  # rules that only a <style> can hold
    structural: bool  # `inline` has selectors that depend on siblings, counts or attributes


@lru_cache(maxsize=64)
def read_stylesheet(css: str) -> Stylesheet:
    """Take `css` apart."""
    inline: list[str] = []
    kept: list[str] = []
    for prelude, block in _rules(_COMMENT.sub("", css)):
        if prelude.startswith("@"):
            kept.append(f"{prelude} {block}".strip())
            continue
        selectors = [each.strip() for each in _split_selectors(prelude)]
        now = [each for each in selectors if _OF_THE_MOMENT.search(_STRING.sub("", each))]
        always = [each for each in selectors if each not in now]
        if now:
            kept.append(f"{', '.join(now)} {block}")
        if always:
            inline.append(f"{', '.join(always)} {block}")
    structural = any(_OF_THE_DOCUMENT.search(rule.partition("{")[0]) for rule in inline)
    return Stylesheet("\n".join(inline), "\n".join(kept), structural)


def _rules(css: str) -> list[tuple[str, str]]:
    """Each rule as its prelude and its block with braces; `;` for a rule without a block."""
    found: list[tuple[str, str]] = []
    prelude = block = ""
    depth = 0
    for word in _WORD.findall(css):
        if depth == 0 and word == ";":
            found.append((prelude.strip() + ";", ""))
            prelude = ""
        elif depth == 0 and word != "{":
            prelude += word
        else:
            block += word
            depth += (word == "{") - (word == "}")
            if depth == 0:
                found.append((prelude.strip(), block))
                prelude = block = ""
    return found


def _split_selectors(prelude: str) -> list[str]:
    """The selectors of a list; commas within :is(a, b) are not its commas."""
    return re.split(r",(?![^(]*\))", prelude)
