"""The templates of messages: found, compiled once a process, and rendered.

The templates of the kind `order_confirmation` are

    notifications/order_confirmation/email.subject.txt
    notifications/order_confirmation/email.txt
    notifications/order_confirmation/email.html
    notifications/order_confirmation/in_app.txt        (its first line is the title)

One of the two bodies may be missing. Subject and text are rendered without autoescaping, HTML
with it, so that O'Brien <b> reads the same in all three. Beside the kind's own context they find
`frontend_url`, the origin of absolute links. The styles in the <style> of an HTML template, or of
the layout it extends, go into the elements.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import global_settings, settings
from django.core.signals import setting_changed
from django.template import Context, Engine, Template, TemplateDoesNotExist
from django.utils import translation

from notifications import conf
from notifications.channels.flattening import flatten
from notifications.channels.inlining import (
    Inlined,
    RenderedOnly,
    has_styles,
    inline_document,
    inline_template,
)

logger = logging.getLogger("notifications.templates")


@dataclass(frozen=True, slots=True)
class Rendered:
    """The words of one mail."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True)
class _Html:
    """An HTML template, compiled."""

    template: Template
    inlined: Inlined | None  # None: its styles are inlined for each mail

    def render(self, values: dict[str, Any]) -> str:
        html: str = self.template.render(Context(values))
        if self.inlined is not None:
            return self.inlined.finish(html)
        return inline_document(html) if has_styles(html) else html


@dataclass(frozen=True, slots=True)
class _Templates:
    """The compiled templates of one kind."""

    subject: Template
    text: Template | None
    html: _Html | None


_compiled: dict[str, _Templates] = {}
_texts: dict[tuple[str, tuple[str, ...]], Template] = {}


def render(kind: str, context: Mapping[str, Any]) -> Rendered:
    """The mail of `kind` for `context`, in the active language.

    Raises TemplateDoesNotExist, and what the templates raise.
    """
    templates = _find(kind)
    values = _values(context)
    text, html = templates.text, templates.html
    return Rendered(
        # A template's last line ends with a line break that is not meant for the subject.
        subject=templates.subject.render(Context(values, autoescape=False)).strip(),
        text="" if text is None else text.render(Context(values, autoescape=False)),
        html="" if html is None else html.render(values),
    )


def render_text(kind: str, names: Sequence[str], context: Mapping[str, Any]) -> str:
    """The text of `kind` from the first of its templates `names` (without .txt) that exists.

    In the active language, without autoescaping. Raises TemplateDoesNotExist, and what the
    template raises.
    """
    text: str = _find_text(kind, tuple(names)).render(Context(_values(context), autoescape=False))
    return text


def preload(kinds: Iterable[str], *, names: Sequence[str] = ()) -> None:
    """Compile the templates of `kinds` (those of mails, or the texts `names`) and load the
    project's languages.

    A forked worker then finds all of it in memory. What is wrong with a template is logged here
    and raised by `render`.
    """
    for kind in kinds:
        try:
            _find_text(kind, tuple(names)) if names else _find(kind)
        except Exception as error:
            logger.warning("the templates of %s: %s: %s", kind, type(error).__name__, error)
    languages = {settings.LANGUAGE_CODE}
    if len(settings.LANGUAGES) < len(global_settings.LANGUAGES):  # Django's default is all it knows
        languages |= {code for code, _name in settings.LANGUAGES}
    for language in languages:
        with translation.override(language):
            translation.gettext("")


def _values(context: Mapping[str, Any]) -> dict[str, Any]:
    return {"frontend_url": str(conf.get("FRONTEND_URL")).rstrip("/"), **context}


def _find_text(kind: str, names: tuple[str, ...]) -> Template:
    known = _texts.get((kind, names))
    if known is None:
        _look_anew()
        paths = [f"notifications/{kind}/{name}.txt" for name in names]
        known = Engine.get_default().select_template(paths)
        if not settings.DEBUG:
            _texts[kind, names] = known
    return known


def _look_anew() -> None:
    """Templates are being worked on under DEBUG: nothing is kept, not even by Django's loaders."""
    if settings.DEBUG:
        for loader in Engine.get_default().template_loaders:
            loader.reset()


def _find(kind: str) -> _Templates:
    known = _compiled.get(kind)
    if known is None:
        _look_anew()
        known = _compile(f"notifications/{kind}/email")
        if not settings.DEBUG:
            _compiled[kind] = known
    return known


def _compile(path: str) -> _Templates:
    engine = Engine.get_default()
    text = _get(engine, f"{path}.txt")
    html = _get(engine, f"{path}.html")
    if text is None and html is None:
        raise TemplateDoesNotExist(f"{path}.txt")
    return _Templates(
        subject=engine.get_template(f"{path}.subject.txt"),
        text=text,
        html=None if html is None else _inline(engine, html),
    )


def _get(engine: Engine, name: str) -> Template | None:
    """The template `name`, None if there is none; one that it extends must be there."""
    try:
        return engine.get_template(name)
    except TemplateDoesNotExist as missing:
        if missing.args[0] != name:
            raise
        return None


def _inline(engine: Engine, template: Template) -> _Html:
    name = str(template.name)
    pieces = flatten(engine, name)
    if pieces is None:
        return _Html(template, inlined=None)
    if not has_styles("".join(piece.raw for piece in pieces)):
        return _Html(template, inlined=Inlined("", ()))
    try:
        inlined = inline_template(pieces)
    except RenderedOnly as reason:
        logger.info("the styles of %s are inlined for each mail: %s", name, reason)
        return _Html(template, inlined=None)
    return _Html(Template(inlined.source, template.origin, name, engine), inlined)


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting in ("TEMPLATES", "INSTALLED_APPS", "DEBUG"):
        _compiled.clear()
        _texts.clear()


setting_changed.connect(_forget)
