"""A template and all it extends and includes, as one source.

CSS can be inlined when a template is loaded only where the whole document is seen at once: the
stylesheet stands in the base layout, the elements in the child. So inheritance is resolved here,
before Django compiles anything: blocks take the place of those they override, and included
templates the place of their `{% include %}`.

Where something is only known when a mail is rendered (`{% extends variable %}`,
`{% include … only %}`) the template is not flattened at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.template import Engine, TemplateDoesNotExist
from django.template.base import (
    BLOCK_TAG_END,
    BLOCK_TAG_START,
    COMMENT_TAG_START,
    VARIABLE_TAG_START,
    tag_re,
)
from django.utils.text import smart_split

DEEPEST = 20  # templates within templates; a tree that includes itself stays dynamic

# These count their own uses; within an {% include %} they start anew each time.
_COUNTERS = frozenset(("cycle", "ifchanged", "resetcycle"))
_QUOTED = re.compile(r"""(["'])(.+)\1""")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of template source: text, a {{ variable }} or a {% tag %}."""

    raw: str
    words: tuple[str, ...] = ()  # of a tag: its name and arguments
    variable: str = ""  # what stands between {{ and }}

    @property
    def tag(self) -> str:
        return self.words[0] if self.words else ""


_Blocks: TypeAlias = dict[str, list[Sequence[Piece]]]  # by name; the most derived first


class _Dynamic(Exception):
    """Raised where a template cannot be known before it is rendered, or not be understood."""


def flatten(engine: Engine, name: str) -> list[Piece] | None:
    """The template `name` in one piece, or None if that is not possible."""
    try:
        return list(_flatten(engine, name, depth=0))
    except (_Dynamic, TemplateDoesNotExist):
        return None  # if something is wrong with it, Django's own parser will say what


def find_source(engine: Engine, name: str) -> str:
    """The source of the template that Django would load. Raises TemplateDoesNotExist."""
    loaders: list[Any] = engine.template_loaders
    for loader in loaders:
        for origin in loader.get_template_sources(name):
            try:
                contents: str = loader.get_contents(origin)
            except TemplateDoesNotExist:
                continue
            return contents
    raise TemplateDoesNotExist(name)


def split(source: str) -> Iterator[Piece]:
    """The pieces of a source, without comments; what is verbatim stays one piece of tags."""
    verbatim = comment = ""
    held: list[str] = []
    for place, raw in enumerate(tag_re.split(source)):
        is_tag = place % 2 == 1 and raw.startswith(BLOCK_TAG_START)
        content = raw[2:-2].strip() if is_tag else ""
        if verbatim:
            held.append(raw)
            if content == verbatim:
                yield Piece("".join(held), words=("verbatim",))
                verbatim = ""
        elif comment:
            if content == comment:
                comment = ""
        elif is_tag:
            words = tuple(smart_split(content))
            if words and words[0] == "verbatim":
                verbatim, held = f"end{content}", [raw]
            elif words and words[0] == "comment":
                comment = "endcomment"
            else:
                yield Piece(raw, words=words)
        elif place % 2 == 1 and raw.startswith(VARIABLE_TAG_START):
            yield Piece(raw, variable=raw[2:-2].strip())
        elif place % 2 == 1 and raw.startswith(COMMENT_TAG_START):
            continue
        elif raw:
            yield Piece(raw)
    if verbatim or comment:  # Django's own parser will say what is wrong
        raise _Dynamic


def _flatten(engine: Engine, name: str, *, depth: int) -> Iterator[Piece]:
    """The template with its ancestors and includes."""
    loads: list[Piece] = []
    blocks: _Blocks = {}
    parent: str | None = name
    while parent is not None:
        depth += 1
        if depth > DEEPEST:
            raise _Dynamic
        pieces = list(split(find_source(engine, parent)))
        parent = _parent(pieces)
        for block, inner in _own_blocks(pieces).items():
            blocks.setdefault(block, []).append(inner)
        if parent is not None:
            # Outside its blocks a child says nothing, but what it loads its blocks use.
            loads = [piece for piece in _top_level(pieces) if piece.tag == "load"] + loads
    yield from loads
    yield from _expand(engine, pieces, blocks, above=(), depth=depth)


def _expand(
    engine: Engine,
    pieces: Sequence[Piece],
    blocks: _Blocks,
    *,
    above: Sequence[Sequence[Piece]],
    depth: int,
) -> Iterator[Piece]:
    """`pieces` with blocks and includes resolved; `above` is what {{ block.super }} means."""
    place = 0
    while place < len(pieces):
        piece = pieces[place]
        if piece.tag == "block":
            own, *supers = blocks[_block_name(piece)]
            yield from _scope(_expand(engine, own, blocks, above=supers, depth=depth))
            place = _end_of_block(pieces, place)
        elif piece.variable == "block.super":
            if above:
                rest = above[1:]
                yield from _scope(_expand(engine, above[0], blocks, above=rest, depth=depth))
        elif re.match(r"block\b", piece.variable):
            raise _Dynamic
        elif piece.tag == "include":
            name, values = _include(piece)
            inner = list(_flatten(engine, name, depth=depth))
            if any(each.tag in _COUNTERS for each in inner):
                raise _Dynamic
            yield from _scope(inner, values)
        else:
            yield piece
        place += 1


def _include(piece: Piece) -> tuple[str, str]:
    """The name and the values of {% include "name" with … %}."""
    if len(piece.words) > 2 and (piece.words[2] != "with" or "only" in piece.words):
        raise _Dynamic
    return _template_name(piece), " ".join(piece.words[3:])


def _scope(pieces: Iterable[Piece], values: str = "") -> Iterator[Piece]:
    """`pieces` in a scope of their own, as Django gives blocks and includes."""
    assignments = values or 'notifications_scope=""'
    raw = f"{BLOCK_TAG_START} with {assignments} {BLOCK_TAG_END}"
    yield Piece(raw, words=("with", assignments))
    yield from pieces
    yield Piece("{% endwith %}", words=("endwith",))


def _parent(pieces: Sequence[Piece]) -> str | None:
    """The name in {% extends %}, which stands before every other tag; None without one."""
    first = next((piece for piece in pieces if piece.tag or piece.variable), None)
    if first is None or first.tag != "extends":
        return None
    return _template_name(first)


def _template_name(piece: Piece) -> str:
    """The constant name that {% extends %} or {% include %} gives."""
    quoted = _QUOTED.fullmatch(piece.words[1]) if len(piece.words) > 1 else None
    if quoted is None or quoted[2].startswith("."):  # "./base.html" is relative to its own place
        raise _Dynamic
    return quoted[2]


def _own_blocks(pieces: Sequence[Piece]) -> dict[str, Sequence[Piece]]:
    """What stands in each block of one template."""
    found: dict[str, Sequence[Piece]] = {}
    for place, piece in enumerate(pieces):
        if piece.tag == "block":
            name = _block_name(piece)
            if name in found:
                raise _Dynamic
            found[name] = pieces[place + 1 : _end_of_block(pieces, place)]
    return found


def _top_level(pieces: Sequence[Piece]) -> Iterator[Piece]:
    depth = 0
    for piece in pieces:
        depth += (piece.tag == "block") - (piece.tag == "endblock")
        if depth == 0:
            yield piece


def _end_of_block(pieces: Sequence[Piece], start: int) -> int:
    depth = 0
    for place in range(start, len(pieces)):
        depth += (pieces[place].tag == "block") - (pieces[place].tag == "endblock")
        if depth == 0:
            return place
    raise _Dynamic


def _block_name(piece: Piece) -> str:
    if len(piece.words) != 2:
        raise _Dynamic
    return piece.words[1]
