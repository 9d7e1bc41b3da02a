"""The documentation says what the code does."""

from __future__ import annotations

import re
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands
from django.test import override_settings

from notifications import conf
from notifications.kinds import Kind
from notifications.message import Email, Push, Sms, WhatsApp
from notifications.models.work import TRANSITIONS, State
from notifications.providers.sendgrid import SendGrid
from tests.pages import block

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def states_table() -> str:
    lines = ["| from | to | when |", "|---|---|---|"]
    lines += [
        f"| `{old.value}` | `{new.value}` | {why} |"
        for old, moves in TRANSITIONS.items()
        for new, why in moves.items()
    ]
    return "\n".join(lines)


def test_the_table_of_states_is_the_one_in_the_code() -> None:
    assert states_table() in (ROOT / "docs/states.md").read_text()


def test_every_state_is_explained() -> None:
    told = (ROOT / "docs/states.md").read_text()
    assert [state for state in State if f"`{state.value}`" not in told] == []


# Admin pages, an included module's names, a metric.
NO_COMMANDS = {
    f"notifications_{name}" for name in ("deadletter", "notification", "push", "waiting")
}


def test_every_command_that_is_named_exists() -> None:
    named = {
        name
        for path in DOCS
        for name in re.findall(r"\bnotifications_[a-z]+(?![a-z_])", path.read_text())
    }
    ours = {name for name, app in get_commands().items() if app == "notifications"}
    assert named - NO_COMMANDS <= ours
    assert {name for name in ours if name.startswith("notifications_")} <= named


@pytest.mark.parametrize("message", [Email, Sms, WhatsApp, Push])
def test_every_field_that_a_provider_is_given_is_named(message: Any) -> None:
    told = ", ".join(f"`{field.name}`" for field in fields(message))
    assert f"| `{message.__name__}` | {told} |" in (ROOT / "docs/adding.md").read_text()


def test_the_settings_that_newcomers_copy_make_a_provider_that_hears_what_became_of_mails() -> None:
    settings: dict[str, Any] = {}
    exec(block("add-to-your-project.md", "5. Providers"), settings)
    with override_settings(NOTIFICATIONS=settings["NOTIFICATIONS"]):
        provider = conf.provider("sendgrid")
    assert isinstance(provider, SendGrid)
    assert provider.webhook_key


def test_what_is_said_to_be_a_kinds_is_one_of_its_attributes() -> None:
    named = {name for path in DOCS for name in re.findall(r"kind's `(\w+)`", path.read_text())}
    assert named
    assert [name for name in named if not hasattr(Kind, name)] == []


def test_every_link_leads_somewhere() -> None:
    broken = [
        f"{path.name}: {target}"
        for path in DOCS
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text())
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert broken == []


def test_every_picture_is_shown_and_small() -> None:
    told = "".join(path.read_text() for path in DOCS)
    pictures = list((ROOT / "docs/pictures").iterdir())
    assert [each.name for each in pictures if f"pictures/{each.name})" not in told] == []
    assert [each.name for each in pictures if each.stat().st_size > 150_000] == []


def test_the_two_commands_of_the_readme_are_targets() -> None:
    """They are run by tests/test_demo.py and by whoever runs this test."""
    block = re.search(r"## Try it.*?```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    assert block[1].split("\n")[:2] == ["make demo", "make test"]
    for line in block[1].strip().split("\n"):
        dry = subprocess.run(
            [*line.split(), "--dry-run"], cwd=ROOT, capture_output=True, timeout=30
        )
        assert dry.returncode == 0
