"""Styles from <style> into the elements, once, when a template is loaded.

Mail programs ignore much of a stylesheet, so each element carries its own style. `css-inline`
works out which styles an element has; to do that it needs a document, and a template is not one
yet. So the template's tags are masked, each element gets a number, css-inline reads the document,
and the styles it found for each number are written into the *source*, which otherwise stays as it
is: nothing that an HTML parser would mend, move or drop is touched.

What is made only when a mail is rendered gets its styles then: elements within
`{% blocktranslate %}` (which must stay as translators know it) and those made by filters such as
`linebreaks`. Media queries, `:hover` and the like stay in <style>.

`inline_template` refuses where the styles depend on the rendered document: selectors that count or
compare siblings, classes that come from variables, markup from `|safe`. Such a template is inlined
for each mail, by `inline_document`, with the same means.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from secrets import token_hex
from typing import TypeAlias

from css_inline import CSSInliner, InlineError

from notifications.channels.flattening import Piece
from notifications.channels.stylesheets import Stylesheet, read_stylesheet

logger = logging.getLogger("notifications.templates")

# What a filter makes, for styles that apply to it.
_MARKUP = {
    "linebreaks": "<p><br></p>",
    "linebreaksbr": "<br>",
    "urlize": '<a href="" rel="nofollow"></a>',
    "urlizetrunc": '<a href="" rel="nofollow"></a>',
}
_UNKNOWN_MARKUP = frozenset(("safe", "safeseq", "unordered_list"))

_ATTRIBUTES = r"(?:[^>\"']|\"[^\"]*\"|'[^']*')*"
_SCAN = re.compile(
    r"<!--.*?-->"
    rf"|<(?P<raw>style|script|title|textarea)\b(?P<rest>{_ATTRIBUTES})>(?P<content>.*?)</(?P=raw)\s*>"
    rf"|<(?P<start>[a-zA-Z][^\s/>]*)(?P<attributes>{_ATTRIBUTES})>"
    r"|</(?P<end>[a-zA-Z][^\s/>]*)[^>]*>",
    re.DOTALL | re.IGNORECASE,
)
_STYLE_ATTRIBUTE = re.compile(r"\s+style\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s>]+)", re.IGNORECASE)
_CLASS_ATTRIBUTE = re.compile(r"\s(?:class|id)\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s>]+)", re.IGNORECASE)
_KEPT_STYLE = re.compile(r"\s(?:media|data-css-inline)\s*=", re.IGNORECASE)
_VALUE = re.compile(r"=\s*(?:\"[^\"]*\"|'[^']*')")
_NUMBER = "data-notifications"
_NUMBERED = re.compile(rf'\s{_NUMBER}="(\d+)"((?:[^>"]|"[^"]*")*)>')
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())  # noqa: SIM905

_NONCE = f"n{token_hex(8)}"  # so that no value of a template can look like ours
_MASK = re.compile(rf"{_NONCE}x(\d+)x")
_REGION = re.compile(rf"<!--{_NONCE}:(\d+)-->(.*?)<!--/{_NONCE}-->", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Inlined:
    """A template's source with its styles in place."""

    source: str
    # For each stretch that is made when a mail is rendered: the styles of its elements.
    regions: tuple[Mapping[str, str], ...]

    def finish(self, html: str) -> str:
        """Style what was made while `html` was rendered."""
        if not self.regions:
            return html
        return _REGION.sub(lambda found: _restyle(found[2], self.regions[int(found[1])]), html)


class RenderedOnly(Exception):
    """Raised when the styles can only be known for a rendered document; the message says why."""


@dataclass(slots=True)
class _Masked:
    """A template as an HTML document: its tags stand there as numbered words."""

    text: str = ""
    pieces: list[Piece] = field(default_factory=list)  # by their number
    regions: list[tuple[int, int]] = field(default_factory=list)  # made when a mail is rendered
    probes: list[tuple[int, int]] = field(default_factory=list)  # what filters will make there

    def add(self, piece: Piece) -> None:
        self.text += f"{_NONCE}x{len(self.pieces)}x"
        self.pieces.append(piece)

    def unmask(self, text: str) -> str:
        return _MASK.sub(lambda found: self.pieces[int(found[1])].raw, text)


@dataclass(slots=True)
class _Element:
    """A start tag found in a document."""

    start: int
    end: int
    name: str
    attributes: str
    style: str = ""  # what css-inline says, ready to stand between double quotes

    @property
    def key(self) -> str:
        """What it is known by when it appears in a rendered mail."""
        return _key(self.name, self.attributes)

    @property
    def styled(self) -> str:
        """The start tag with its style."""
        return _start_tag(self.name, self.attributes, self.style)


Edit: TypeAlias = tuple[int, int, str]  # from, to, and what takes its place


def has_styles(source: str) -> bool:
    """Whether there is anything to inline."""
    return "<style" in source.lower()


def inline_document(html: str) -> str:
    """A rendered document with its styles in place.

    If its CSS cannot be read it stays as it is: most readers will see it as it was meant.
    """
    scanned = _scan(html)
    sheet = _sheet_of(scanned)
    try:
        elements = _find_elements(html, scanned, sheet)
    except InlineError as error:
        logger.warning("the styles of a mail are not inlined: %s", error)
        return html
    return _apply(html, [*_edits_of(elements), *_edits_of_sheets(scanned, sheet)])


def inline_template(pieces: Sequence[Piece]) -> Inlined:
    """The template with its styles in place. Raises RenderedOnly."""
    masked = _mask(pieces)
    text = masked.text
    scanned = _scan(text)
    sheet = _sheet_of(scanned)
    if sheet.structural:
        raise RenderedOnly("a selector looks at siblings, counts, contents or attributes")
    _check_tags(masked)
    try:
        elements = _find_elements(text, scanned, sheet)
    except InlineError:
        raise RenderedOnly("CSS cannot read a style attribute with a variable in it") from None
    regions: list[Mapping[str, str]] = []
    edits: list[Edit] = [(start, end, "") for start, end in masked.probes]
    for start, end in masked.regions:
        inside = [each for each in elements if start <= each.start < end]
        elements = [each for each in elements if each not in inside]
        styles = _styles_by_key(inside)
        if styles:
            edits.append((start, start, f"<!--{_NONCE}:{len(regions)}-->"))
            edits.append((end, end, f"<!--/{_NONCE}-->"))
            regions.append(styles)
    source = _apply(text, [*edits, *_edits_of(elements), *_edits_of_sheets(scanned, sheet)])
    in_sheets = {each for found in scanned if _is_sheet(found) for each in _MASK.findall(found[0])}
    if set(_MASK.findall(text)) - in_sheets - set(_MASK.findall(source)):
        raise RenderedOnly("CSS cannot read a style attribute with a variable in it")
    return Inlined(masked.unmask(source), tuple(regions))


# -- templates as documents -----------------------------------------------------------------


def _mask(pieces: Sequence[Piece]) -> _Masked:
    """The document that a template stands for. Raises RenderedOnly where it may be any."""
    masked = _Masked()
    translating = -1  # where the present {% blocktranslate %} began
    for piece in pieces:
        filters = {each.partition(":")[0].strip() for each in piece.variable.split("|")[1:]}
        if filters & _UNKNOWN_MARKUP or piece.words[:2] == ("autoescape", "off"):
            raise RenderedOnly("values bring markup of their own")
        if piece.tag == "verbatim" and "<" in piece.raw:
            raise RenderedOnly("there is markup within {% verbatim %}")
        if not (piece.tag or piece.variable):
            masked.text += piece.raw
            continue
        start = len(masked.text)
        if piece.tag in ("blocktranslate", "blocktrans"):
            if "asvar" in piece.words:
                raise RenderedOnly("a translation goes into a variable (asvar)")
            translating = start
        masked.add(piece)
        if piece.tag in ("endblocktranslate", "endblocktrans"):
            masked.regions.append((translating, len(masked.text)))
        probe = "".join(_MARKUP[each] for each in sorted(filters & set(_MARKUP)))
        if probe:
            end = len(masked.text) + len(probe)
            masked.probes.append((len(masked.text), end))
            masked.regions.append((start, end))
            masked.text += probe
    return masked


def _check_tags(masked: _Masked) -> None:
    """Raise RenderedOnly where tags decide which elements there are within which others, or
    which classes they have."""
    closing = {piece.tag for piece in masked.pieces if piece.tag.startswith("end")}
    open_elements: list[str] = []
    open_tags: list[tuple[str, ...]] = []  # the elements open where each block tag began
    for event in _events(masked.text):
        if isinstance(event, int):
            tag = masked.pieces[event].tag
            if f"end{tag}" in closing:
                open_tags.append(tuple(open_elements))
            elif tag in ("elif", "else", "empty", "plural") or tag in closing:
                before = open_tags.pop() if tag in closing else open_tags[-1]
                if before != tuple(open_elements):
                    raise RenderedOnly(
                        f"within {{% {tag} %}} an element is only opened or only closed"
                    )
        elif event["raw"]:
            numbers = [int(each) for each in _MASK.findall(event["content"])]
            if _is_style(event) and any(masked.pieces[n].tag for n in numbers):
                raise RenderedOnly("a stylesheet has tags in it")
        elif event["start"]:
            if _MASK.search(event["start"]):
                raise RenderedOnly("an element's name comes from a variable")
            _check_attributes(masked, event["attributes"])
            if event["start"].lower() not in _VOID and not event["attributes"].endswith("/"):
                open_elements.append(event["start"].lower())
        elif event["end"] and event["end"].lower() in open_elements:
            while open_elements.pop() != event["end"].lower():
                pass


def _events(text: str) -> Iterator[int | re.Match[str]]:
    """The elements of a masked document, and the numbers of the tags between them."""
    place = 0
    for found in _SCAN.finditer(text):
        yield from (int(each) for each in _MASK.findall(text[place : found.start()]))
        yield found
        place = found.end()
    yield from (int(each) for each in _MASK.findall(text[place:]))


def _check_attributes(masked: _Masked, attributes: str) -> None:
    if not _MASK.search(attributes):
        return
    for style in _STYLE_ATTRIBUTE.findall(attributes):
        if any(masked.pieces[int(each)].tag for each in _MASK.findall(style)):
            raise RenderedOnly("a style attribute has tags in it")
    identity = "".join(_CLASS_ATTRIBUTE.findall(attributes))
    if _MASK.search(identity) or _MASK.search(_VALUE.sub("", attributes)):
        raise RenderedOnly("a class, an id or a whole attribute depends on a tag or a variable")


def _styles_by_key(elements: Sequence[_Element]) -> dict[str, str]:
    """The styles of the elements in a region. Raises RenderedOnly if two alike differ."""
    styles: dict[str, str] = {}
    for each in elements:
        if styles.setdefault(each.key, each.style) != each.style or _MASK.search(each.style):
            raise RenderedOnly(
                "elements of one translation look the same and are styled differently"
            )
    return {key: style for key, style in styles.items() if style}


def _restyle(html: str, styles: Mapping[str, str]) -> str:
    """`html`, made when a mail was rendered, with the styles of its elements."""

    def restyle(found: re.Match[str]) -> str:
        name, attributes = found["start"], found["attributes"]
        if not name:
            return found[0]
        return _start_tag(name, attributes, styles.get(_key(name, attributes), ""))

    return _SCAN.sub(restyle, html)


# -- documents ------------------------------------------------------------------------------


def _scan(text: str) -> list[re.Match[str]]:
    """The tags and comments of a document, in their order."""
    return list(_SCAN.finditer(text))


def _sheet_of(scanned: Sequence[re.Match[str]]) -> Stylesheet:
    return read_stylesheet("\n".join(each["content"] for each in scanned if _is_sheet(each)))


def _is_style(found: re.Match[str]) -> bool:
    return (found["raw"] or "").lower() == "style"


def _is_sheet(found: re.Match[str]) -> bool:
    """Whether this is a <style> for all readers; <style media="print"> stays as it is."""
    return _is_style(found) and not _KEPT_STYLE.search(found["rest"])


def _find_elements(
    text: str, scanned: Sequence[re.Match[str]], sheet: Stylesheet
) -> list[_Element]:
    """The elements of a document that have a style."""
    elements: list[_Element] = []
    numbered: list[str] = [f"<style>{sheet.inline}</style>"]
    place = 0
    for found in scanned:
        # As comments the masks may stand anywhere, also between the rows of a table.
        numbered.append(_MASK.sub("<!---->", text[place : found.start()]))
        place = found.end()
        name = found["start"]
        if name:
            numbered.append(f'<{name} {_NUMBER}="{len(elements)}"{found["attributes"]}>')
            elements.append(_Element(found.start(), place, name, found["attributes"]))
        elif found["end"]:
            numbered.append(found[0])
    numbered.append(text[place:])
    for number, others in _NUMBERED.findall(_inliner().inline("".join(numbered))):
        style = _STYLE_ATTRIBUTE.search(others)
        if style:
            elements[int(number)].style = style[1][1:-1]
    return [each for each in elements if each.style]


@cache
def _inliner() -> CSSInliner:
    # Nothing is ever fetched: a template may hold what customers wrote.
    return CSSInliner(load_remote_stylesheets=False)


def _edits_of(elements: Sequence[_Element]) -> list[Edit]:
    return [(each.start, each.end, each.styled) for each in elements]


def _edits_of_sheets(scanned: Sequence[re.Match[str]], sheet: Stylesheet) -> list[Edit]:
    """The first <style> gets what must stay in one, the others go."""
    sheets = [found for found in scanned if _is_sheet(found)]
    edits = [(*found.span(), "") for found in sheets]
    if sheets and sheet.kept:
        kept = f"<style{sheets[0]['rest']}>\n{sheet.kept}\n</style>"
        edits[0] = (*sheets[0].span(), kept)
    return edits


def _apply(text: str, edits: Sequence[Edit]) -> str:
    parts: list[str] = []
    place = 0
    for start, end, replacement in sorted(edits, key=lambda edit: edit[:2]):
        parts += [text[place:start], replacement]
        place = end
    return "".join([*parts, text[place:]])


def _start_tag(name: str, attributes: str, style: str) -> str:
    if not style:
        return f"<{name}{attributes}>"
    return f'<{name} style="{style}"{_STYLE_ATTRIBUTE.sub("", attributes)}>'


def _key(name: str, attributes: str) -> str:
    return " ".join([name.lower(), *_CLASS_ATTRIBUTE.findall(attributes)])
