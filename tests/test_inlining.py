"""Styles move into the elements when a template is loaded, and the mail is the one that inlining
each rendered mail would give."""

from __future__ import annotations

import re
from typing import Any

import pytest
from css_inline import CSSInliner
from django.template import Context, Engine
from django.utils import translation
from django.utils.translation import trans_real

from notifications.channels import templates
from notifications.channels.flattening import flatten
from notifications.channels.inlining import inline_document
from notifications.channels.stylesheets import read_stylesheet
from notifications.kinds import all_kinds
from tests.mail_templates import kind_templates, use_templates

STYLE = "<style>p { color: red; } .big { font-size: 30px; } td.sum { font-weight: bold; }</style>"

CONTEXT: dict[str, Any] = {
    "name": "O'Brien <b>",
    "lines": ["one", "two", "three"],
    "yes": True,
    "no": False,
    "status": "big",
    "tag": "p",
    "style": "left: 0",
    "markup": '<p class="big">hi</p>',
    "paragraphs": "first\n\nsecond <p>",
    "color": "green",
    "total": 7,
}


def render(html: str, *, context: dict[str, Any] = CONTEXT, **others: str) -> tuple[str, bool]:
    """The HTML of a mail with this template, and whether its styles were inlined at load."""
    sources = kind_templates("k", subject="s", html=html)
    with use_templates(sources | {name.replace("__", "/"): text for name, text in others.items()}):
        rendered = templates.render("k", context)
        compiled = templates._find("k").html
        assert compiled is not None
        return rendered.html, compiled.inlined is not None


def styles(html: str) -> list[tuple[str, str]]:
    """Each start tag's name and style."""
    tags = re.findall(r"(?i)<([a-z][a-z0-9]*)((?:[^>\"']|\"[^\"]*\"|'[^']*')*)>", html)
    found = [(name, re.search(r'style="([^"]*)"', attributes)) for name, attributes in tags]
    return [(name, style[1] if style else "") for name, style in found]


SAME_AS_RENDERED = {
    "a variable": "<p>Hello {{ name }}</p>",
    "rows of a table": (
        "<table>{% for line in lines %}<tr><td>{{ line }}</td>"
        '<td class="sum">{{ total }}</td></tr>{% endfor %}</table>'
    ),
    "text between rows": "<table>{% if yes %}<tr><td class=sum>x</td></tr>{% endif %}</table>",
    "branches": (
        "{% if no %}<p>no</p>{% elif yes %}<p class='big'>yes</p>{% else %}<b>?</b>{% endif %}"
    ),
    "an empty loop": (
        "<ul>{% for x in none %}<li>x</li>{% empty %}<li class='big'>-</li>{% endfor %}</ul>"
    ),
    "a link": '<p><a class="big" href="{{ name }}?a=1&amp;b={{ total }}">x</a></p>',
    "quotes within tags": """<p title="{{ name|default:"x > y" }}">x</p>""",
    "a style of its own": """<p style="color: {{ color }}; left: 0">x</p><p style='top:0'>y</p>""",
    "a comment": "{# <p> #}<p>x</p>{% comment %}<p>{% endcomment %}<!-- <p> -->",
    "for Outlook": "<!--[if mso]><p class='big'>{{ name }}</p><![endif]--><p>x</p>",
    "upper case": "<P CLASS=big>x</P>",
    "closed in itself": "<p>a<br/>b<img src='x' class=\"big\" /></p>",
    "entities": "<p>&nbsp;&copy;&euro; {{ name }}</p>",
    "with": "{% with big=name %}<p>{{ big }}</p>{% endwith %}",
    "left out end tags": "<p>a<p class=big>b",
    "line breaks": "<p>{{ paragraphs|linebreaksbr }}</p>",
    "paragraphs": "<div>{{ paragraphs|linebreaks }}</div>",
    "a value in the stylesheet": "<style>b { color: {{ color }} }</style><b>x</b>",
}


@pytest.mark.parametrize("body", SAME_AS_RENDERED.values(), ids=SAME_AS_RENDERED)
def test_a_template_is_inlined_once_and_for_all_mails_alike(body: str) -> None:
    html = f"<html><head>{STYLE}</head><body>{body}</body></html>"
    got, at_load = render(html)
    assert at_load
    plain = Engine().from_string(html).render(Context(CONTEXT))
    assert styles(got) == styles(inline_document(plain))
    assert any(style for _name, style in styles(got))
    # css-inline itself, which adds what an HTML parser adds, says the same.
    added = {"html", "head", "body", "tbody", "style"}
    expected = [each for each in styles(CSSInliner().inline(plain)) if each[0] not in added]
    assert [each for each in styles(got.lower()) if each[0] not in added] == expected
    # Beside styles, nothing has changed.
    strip = re.compile(r"<style>.*?</style>|\s*style=(\"[^\"]*\"|'[^']*')", re.DOTALL)
    assert strip.sub("", got).split() == strip.sub("", plain).split()


ONLY_RENDERED = {
    "markup from a variable": "{{ markup|safe }}",
    "escaping switched off": "{% autoescape off %}{{ markup }}{% endautoescape %}",
    "a class from a variable": '<p class="{{ status }}">x</p>',
    "an attribute under a condition": '<p {% if yes %}class="big"{% endif %}>x</p>',
    "rows counted": (
        "<style>tr:nth-child(2) { color: blue }</style><table>"
        "{% for line in lines %}<tr><td>{{ line }}</td></tr>{% endfor %}</table>"
    ),
    "siblings": (
        "<style>p + p { color: blue }</style>{% for x in lines %}<p>{{ x }}</p>{% endfor %}"
    ),
    "a stylesheet under a condition": "<style>{% if no %}p { top: 0 }{% endif %}</style><p>x</p>",
    "branches that open and others that close": (
        "{% if yes %}<p class=big>{% else %}<p>{% endif %}x</p>"
    ),
    "verbatim markup": "{% verbatim %}<p>{{ x }}</p>{% endverbatim %}",
    "an element's name from a variable": '<{{ tag }} class="big">x</{{ tag }}>',
    "a translation in a variable": (
        "{% load i18n %}{% blocktranslate asvar x %}<p>x</p>{% endblocktranslate %}<p>{{ x }}</p>"
    ),
    "two alike in one translation": (
        "<style>i b { top: 0 } b { left: 0 }</style>{% load i18n %}"
        "{% blocktranslate %}<b>x</b><i><b>y</b></i>{% endblocktranslate %}"
    ),
    "tags in a style attribute": """<p style="top: {% if yes %}1px{% endif %}">x</p>""",
    "a whole style from a variable": """<p style="{{ style }}">x</p>""",
    "an include by variable": "{% include status %}",
}


@pytest.mark.parametrize("body", ONLY_RENDERED.values(), ids=ONLY_RENDERED)
def test_what_depends_on_the_mail_is_inlined_for_each_mail(body: str) -> None:
    html = f"<html><head>{STYLE}</head><body>{body}</body></html>"
    others = {"big": "<p>included</p>"}
    got, at_load = render(html, **others)
    assert not at_load
    with use_templates(others):
        plain = Engine.get_default().from_string(html).render(Context(CONTEXT))
    assert got == inline_document(plain)
    assert any(style for _name, style in styles(got))


def test_text_is_escaped_once() -> None:
    got, _at_load = render(f"{STYLE}<p>{{{{ name }}}}</p>")
    assert '<p style="color: red;">O&#x27;Brien &lt;b&gt;</p>' in got


# -- layouts --------------------------------------------------------------------------------

BASE = (
    "<html><head><style>.content p { color: red } h1 { color: blue }</style></head><body>"
    '{% block head %}<h1>Shop</h1>{% endblock %}<div class="content">{% block content %}'
    "<p>nothing</p>{% endblock %}</div>{% block foot %}<p>foot</p>{% endblock %}</body></html>"
)


def test_a_stylesheet_in_the_layout_reaches_its_children() -> None:
    child = '{% extends "base.html" %}{% block content %}<p>Hello {{ name }}</p>{% endblock %}'
    got, at_load = render(child, **{"base.html": BASE})
    assert at_load
    assert '<p style="color: red;">Hello O&#x27;Brien &lt;b&gt;</p>' in got
    assert '<h1 style="color: blue;">Shop</h1>' in got
    assert "<p>foot</p>" in got
    assert "nothing" not in got


def test_three_generations_and_block_super() -> None:
    middle = (
        '{% extends "base.html" %}{% block content %}<p>middle</p>{{ block.super }}'
        "{% block inner %}{% endblock %}{% endblock %}{% block head %}{% endblock %}"
    )
    child = (
        '{% extends "middle.html" %}{% block inner %}<p>{{ name }}</p>{% endblock %}'
        "{% block foot %}<h1>!</h1>{{ block.super }}{% endblock %}"
    )
    others = {"base.html": BASE, "middle.html": middle}
    got, at_load = render(child, **others)
    assert at_load
    with use_templates(others | {"child.html": child}):
        plain = Engine.get_default().get_template("child.html").render(Context(CONTEXT))
    assert re.sub(r"<style>.*?</style>| style=\"[^\"]*\"", "", got) == re.sub(
        "<style>.*?</style>", "", plain
    )
    assert got.count('<p style="color: red;">') == 3


def test_included_templates_are_styled_and_see_what_they_are_given() -> None:
    child = (
        '{% extends "base.html" %}{% block content %}{% for line in lines %}'
        '{% include "line.html" with name=line %}{% endfor %}{{ name }}{% endblock %}'
    )
    got, at_load = render(child, **{"base.html": BASE, "line.html": "<p>{{ name }}</p>"})
    assert at_load
    assert [f'<p style="color: red;">{each}</p>' in got for each in CONTEXT["lines"]] == [True] * 3
    assert "O&#x27;Brien" in got


def test_what_a_child_loads_its_blocks_can_use() -> None:
    child = (
        '{% extends "base.html" %}{% load l10n i18n %}{% block content %}'
        '<p>{% translate "Monday" %} {{ total|unlocalize }}</p>{% endblock %}'
    )
    got, at_load = render(child, **{"base.html": BASE})
    assert at_load
    assert '<p style="color: red;">Monday 7</p>' in got


def test_a_name_set_in_one_block_stays_there() -> None:
    child = (
        '{% extends "base.html" %}{% load i18n %}'
        '{% block head %}{% translate "Monday" as name %}<h1>{{ name }}</h1>{% endblock %}'
        "{% block content %}<p>{{ name }}</p>{% endblock %}"
    )
    got, at_load = render(child, **{"base.html": BASE})
    assert at_load
    assert '<h1 style="color: blue;">Monday</h1>' in got
    assert '<p style="color: red;">O&#x27;Brien &lt;b&gt;</p>' in got


@pytest.mark.parametrize(
    "child",
    [
        "{% extends layout %}{% block content %}<p>x</p>{% endblock %}",
        '{% extends "./base.html" %}{% block content %}<p>x</p>{% endblock %}',
        '{% extends "base.html" %}{% block content %}{% include "line.html" only %}{% endblock %}',
        '{% extends "base.html" %}{% block content %}{% include "cycle.html" %}{% endblock %}',
        '{% extends "base.html" %}{% block content %}<p>{{ block.name }}</p>{% endblock %}',
        '{% extends "base.html" %}{% block content %}{% include "me.html" %}{% endblock %}',
    ],
)
def test_what_cannot_be_put_together_ahead_is_inlined_for_each_mail(child: str) -> None:
    others = {
        "base.html": BASE,
        "notifications/k/base.html": BASE,
        "line.html": "<p>x</p>",
        "cycle.html": "<p>{% cycle 1 2 %}</p>",
        "me.html": '{% if no %}{% include "me.html" %}{% endif %}<p>x</p>',
    }
    got, at_load = render(child, context=CONTEXT | {"layout": "base.html"}, **others)
    assert not at_load
    assert '<p style="color: red;">' in got


def test_a_broken_template_says_what_is_wrong_with_it() -> None:
    with pytest.raises(Exception, match="endif"):
        render(f"{STYLE}{{% if name %}}<p>x</p>")
    with pytest.raises(Exception, match="appears more than once"):
        render(f"{STYLE}{{% block a %}}{{% endblock %}}{{% block a %}}{{% endblock %}}")


# -- translations ---------------------------------------------------------------------------


def test_translated_markup_is_found_by_its_translators_and_styled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    english = "Hi %(x)s, <a href='/'>look</a> at <b class='big'>this</b>"
    german = "<b class='big'>Das</b> hier, %(x)s, <a href='/'>sehen</a>"
    html = (
        "{% load i18n %}<style>a { color: red } .big { top: 0 }</style>"
        "{% blocktranslate with x=name %}Hi {{ x }}, <a href='/'>look</a> at "
        "<b class='big'>this</b>{% endblocktranslate %}<b>x</b>"
    )
    with translation.override("de"):
        monkeypatch.setitem(trans_real.catalog()._catalog._catalogs[0], english, german)
        got, at_load = render(html)
    assert at_load
    assert got.endswith("<b>x</b>")
    assert "<a style=\"color: red;\" href='/'>sehen</a>" in got
    assert "<b style=\"top: 0;\" class='big'>Das</b> hier, O&#x27;Brien &lt;b&gt;, " in got


def test_a_plural_is_styled_in_both_forms() -> None:
    html = (
        "{% load i18n %}<style>b { color: red }</style>{% blocktranslate count n=total %}"
        "<b>one</b>{% plural %}<b>{{ n }}</b> things{% endblocktranslate %}"
    )
    for total, text in ((1, "one"), (7, "7")):
        got, at_load = render(html, context={"total": total})
        assert at_load
        assert f'<b style="color: red;">{text}</b>' in got


def test_a_value_cannot_pass_for_a_marker() -> None:
    html = (
        "{% load i18n %}<style>b { color: red }</style>"
        "{% blocktranslate with x=name %}<b>{{ x }}</b>{% endblocktranslate %}<p>{{ name }}</p>"
    )
    got, _at_load = render(html, context={"name": "<!--n:0--><b>x</b>"})
    assert got.count('<b style="color: red;">') == 1


# -- stylesheets ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("css", "inline", "kept", "structural"),
    [
        ("p { color: red }", "p { color: red }", "", False),
        ("p{a:b} @media print { p { c: d } }", "p {a:b}", "@media print { p { c: d } }", False),
        ("a, a:hover { x: y }", "a { x: y }", "a:hover { x: y }", False),
        ("p::before { content: '}' }", "", "p::before { content: '}' }", False),
        ("/* p { */ b { x: y } /* } */", "b { x: y }", "", False),
        ('@import url("x;y"); b { x: y }', "b { x: y }", '@import url("x;y");', False),
        ("p > b { x: y }", "p > b { x: y }", "", False),
        ("p + b { x: y }", "p + b { x: y }", "", True),
        ("a[href] { x: y }", "a[href] { x: y }", "", True),
        ("li:first-child { x: y }", "li:first-child { x: y }", "", True),
        (":is(a, b) { x: y }", ":is(a, b) { x: y }", "", True),
        ("@font-face { src: url(x) } ", "", "@font-face { src: url(x) }", False),
    ],
)  # fmt: skip
def test_a_stylesheet_is_taken_apart(css: str, inline: str, kept: str, structural: bool) -> None:
    sheet = read_stylesheet(css)
    assert (sheet.inline, sheet.kept, sheet.structural) == (inline, kept, structural)


def test_media_queries_and_states_stay_in_the_stylesheet() -> None:
    html = (
        "<head><style type='text/css'>p { color: red } p:hover { color: blue }"
        "@media (max-width: 480px) { p { color: green !important } }</style>"
        "<style>b { top: 0 }</style></head><p>x</p>"
    )
    got, at_load = render(html)
    assert at_load
    assert got.count("<style") == 1
    (kept,) = re.findall(r"<style type='text/css'>(.*?)</style>", got, re.DOTALL)
    assert "p:hover { color: blue }" in kept
    assert "p { color: green !important }" in kept
    assert "color: red" not in kept
    assert '<p style="color: red;">x</p>' in got


def test_a_stylesheet_for_some_readers_stays_as_it_is() -> None:
    kept = '<style media="print">p { color: blue }</style>'
    html = f"<head>{kept}<style>p {{ top: 0 }}</style></head><p>x</p>"
    got, at_load = render(html)
    assert at_load
    assert got == f'<head>{kept}</head><p style="top: 0;">x</p>'


def test_without_a_stylesheet_nothing_is_touched() -> None:
    html = "<P Class=x>{{ name }}<br/>"
    assert render(html)[0] == "<P Class=x>O&#x27;Brien &lt;b&gt;<br/>"


def test_css_that_cannot_be_read_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    html = f'<head>{STYLE}</head><p style="{{{{ style }}}}">x</p>'
    got, _at_load = render(html, context={"style": "no CSS"})
    assert got == f'<head>{STYLE}</head><p style="no CSS">x</p>'
    assert "not inlined" in caplog.text


def test_nothing_is_fetched() -> None:
    link = '<link rel="stylesheet" href="file:///etc/hostname">'
    got, _at_load = render(f"{STYLE}{link}<p>x</p>")
    assert link in got


# -- the shop's own -------------------------------------------------------------------------


def test_every_template_of_the_shop_is_inlined_when_loaded() -> None:
    engine = Engine.get_default()
    for name, kind in all_kinds().items():
        if not name.startswith(
            ("order", "payment", "refund", "verification", "password", "welcome")
        ):
            continue
        assert flatten(engine, f"notifications/{name}/email.html") is not None
        compiled = templates._find(name)
        assert compiled.html is not None
        assert compiled.html.inlined is not None, name
        html = templates.render(name, kind.sample()).html
        assert "<p style=" in html
        assert "<!--n" not in html
