"""The page of features: every one once, each with a test that exists or a reason why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "features.md").read_text()
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| ")]
NUMBERS = [f"F{n}" for n in range(1, 37)] + ["F35b"] + [f"G{n}" for n in range(1, 16)]


def test_every_feature_is_there_once() -> None:
    found = [cells[0].strip() for cells in ROWS if re.fullmatch(r"[FG]\d+b?", cells[0].strip())]
    assert sorted(found) == sorted(NUMBERS)


def test_each_is_shown_or_says_why_not() -> None:
    for cells in ROWS:
        if cells[0].strip().startswith(("path", "`/")):  # shown by the tests above their table
            continue
        last = cells[-1].strip()
        assert "::test_" in last or "*" in last or "](" in last or last.startswith("shown"), cells


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(tests/[\w/]+\.py)::", PAGE))))
def test_the_tests_it_names_exist(path: str) -> None:
    named = set(re.findall(rf"`{re.escape(path)}::(\w+)`", PAGE))
    written = set(re.findall(r"^def (test_\w+)", (ROOT / path).read_text(), re.MULTILINE))
    assert named <= written


def test_every_command_and_every_variable_is_there() -> None:
    commands = {
        path.stem
        for folder in ("notifications", "orders")
        for path in (ROOT / folder / "management" / "commands").glob("*.py")
        if path.stem != "__init__"
    }
    variables = re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    missing = [name for name in (*commands, *variables) if f"`{name}`" not in PAGE]
    assert missing == []
