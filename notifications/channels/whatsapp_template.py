"""How a kind says which WhatsApp template it uses, and what goes into it.

    class OrderConfirmation(Kind):
        name = "order_confirmation"
        channels = ("email", "whatsapp")
        whatsapp = WhatsAppTemplate(
            "order_confirmation",
            languages=("en_US", "de"),
            body=("name", "order.number", "order.total|floatformat:2"),
            buttons=("order.number",),
        )

The template's words are Meta's: they were written and approved there. Here stands what fills its
placeholders, each as it would stand between {{ }} in a Django template, filters included:
a sequence for {{1}}, {{2}}, … and a mapping for named ones. Of several templates the first whose
`when` says yes is taken, so that cash and prepaid orders read different words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

from django.conf import settings
from django.core.signals import setting_changed
from django.template import Context, Engine, Template
from django.utils import translation

from notifications.errors import InvalidMessage
from notifications.message import Button, ButtonType, Media, Parameter

ButtonValue: TypeAlias = str | tuple[ButtonType, str] | None
Read: TypeAlias = Callable[[str], str]  # from what is declared to the text that is sent


@dataclass(frozen=True, slots=True)
class WhatsAppTemplate:
    """A template of Meta's, and where its parameters come from."""

    name: str  # as it is called there
    languages: Sequence[str] = ()  # Meta's codes; the first is for everybody else; empty: one, ours
    body: Sequence[str] | Mapping[str, str] = ()
    header: str | Mapping[str, str] | Media | None = None  # text, named text, or media by link
    # By place. Text: the end of a URL button's address; ("quick_reply", payload);
    # ("copy_code", code); None for a button without a parameter.
    buttons: Sequence[ButtonValue] = ()
    load: Sequence[str] = ()  # libraries of template tags whose filters are used
    when: Callable[[Mapping[str, Any]], object] | None = field(default=None, compare=False)

    def language_for(self, language: str) -> str:
        """The code of the translation to use for a recipient who reads `language` (Django's code).

        The same locale if there is one, else one of the same language, else the first.
        """
        ours = tuple(self.languages) or (translation.to_locale(settings.LANGUAGE_CODE),)
        wanted = translation.to_locale(language) if language else ours[0]
        if wanted in ours:
            return wanted
        same = (each for each in ours if each.partition("_")[0] == wanted.partition("_")[0])
        return next(same, ours[0])

    def slots(self) -> dict[str, str]:
        """Every place it fills, as `notifications.channels.whatsapp_registry` names them, and with
        what."""
        filled: dict[str, str] = {}
        if isinstance(self.header, Media):
            filled[f"header {self.header.type}"] = self.header.link
        else:
            for name, given in _pairs(self.header):
                filled[f"header {{{{{name}}}}}"] = given
        for name, given in _pairs(self.body):
            filled[f"body {{{{{name}}}}}"] = given
        for index, kind, given in self._buttons():
            filled[f"button {index + 1} {kind}"] = given
        return filled

    def fill(
        self, read: Read
    ) -> tuple[Parameter | Media | None, tuple[Parameter, ...], tuple[Button, ...]]:
        """Header, body and buttons of a message. Raises InvalidMessage for an empty parameter."""

        def value(given: str, where: str) -> str:
            # No line breaks, tabs or runs of spaces: Meta refuses them in a parameter.
            text = " ".join(read(given).split())
            if not text:
                raise InvalidMessage(
                    f"The WhatsApp template {self.name} has nothing to put into {where} ({given})."
                )
            return text

        header: Parameter | Media | None = None
        if isinstance(self.header, Media):
            name = read(self.header.filename) if self.header.filename else ""
            header = Media(self.header.type, value(self.header.link, "its header"), name)
        else:
            for name, given in _pairs(self.header):
                header = Parameter(value(given, "its header"), "" if name.isdigit() else name)
        body = tuple(
            Parameter(value(given, f"{{{{{name}}}}}"), "" if name.isdigit() else name)
            for name, given in _pairs(self.body)
        )
        buttons = tuple(
            Button(index, kind, value(given, f"button {index + 1}"))
            for index, kind, given in self._buttons()
        )
        return header, body, buttons

    def _buttons(self) -> list[tuple[int, ButtonType, str]]:
        found: list[tuple[int, ButtonType, str]] = []
        for index, each in enumerate(self.buttons):
            if isinstance(each, str):
                found.append((index, "url", each))
            elif each is not None:
                found.append((index, each[0], each[1]))
        return found


def _pairs(given: str | Sequence[str] | Mapping[str, str] | None) -> list[tuple[str, str]]:
    """What is given, by the placeholder's name: its own, or its number."""
    if given is None:
        return []
    if isinstance(given, Mapping):
        return list(given.items())
    listed = [given] if isinstance(given, str) else given
    return [(str(place), each) for place, each in enumerate(listed, start=1)]


Declared: TypeAlias = WhatsAppTemplate | Sequence[WhatsAppTemplate]


def listed(declared: Declared) -> Sequence[WhatsAppTemplate]:
    """The templates a kind declares, in their order."""
    return (declared,) if isinstance(declared, WhatsAppTemplate) else declared


def choose(declared: Declared, context: Mapping[str, Any]) -> WhatsAppTemplate | None:
    """The first template whose `when` says yes to `context`; None if none does."""
    fitting = (each for each in listed(declared) if each.when is None or each.when(context))
    return next(fitting, None)


def reader(template: WhatsAppTemplate, context: Mapping[str, Any]) -> Read:
    """Reads the expressions of `template` in `context`, in the active language."""
    values = Context(dict(context), autoescape=False)
    load = tuple(template.load)
    return lambda expression: str(_compile(expression, load).render(values))


def compile_all(template: WhatsAppTemplate) -> None:
    """Compile its expressions. Raises TemplateSyntaxError."""
    for expression in template.slots().values():
        _compile(expression, tuple(template.load))


@lru_cache(maxsize=1024)
def _compile(expression: str, load: tuple[str, ...]) -> Template:
    libraries = "".join(f"{{% load {each} %}}" for each in load)
    return Engine.get_default().from_string(f"{libraries}{{{{ {expression} }}}}")


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting in ("TEMPLATES", "INSTALLED_APPS"):
        _compile.cache_clear()


setting_changed.connect(_forget)
