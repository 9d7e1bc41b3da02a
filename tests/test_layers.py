"""Imports point down only: doors, then the flow, then the words. No cycles, nothing hidden."""

from __future__ import annotations

import ast
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent

# From the top down. Each module may import those of its own band (without cycles) and below.
DOORS = {
    "admin", "apps", "backends", "bell", "browsers", "checks", "jobs", "management", "monitoring",
    "rest", "ringjobs", "templatetags", "testing", "urls", "vitals", "webhooks", "worker",
}  # fmt: skip
FLOW = {
    "alerts", "audit", "bounds", "bulk", "chain", "clock", "composition", "dead_letters",
    "delivery", "dispatch", "erasure", "events", "fallback", "fates", "health", "holds",
    "hostjobs", "hostqueues", "inbox", "judgement", "lookups", "metrics", "notifications",
    "operations", "outbox", "overview", "pending", "previews", "queues", "rates", "receipts",
    "recipients", "reporting", "resending", "retention", "rings", "senders", "sent_messages",
    "service", "sieve", "statistics", "subscribing", "suppressions", "synchronising", "tallies",
    "tasks", "testers", "timeline", "tokens", "topics", "workers",
}  # fmt: skip
WORDS = {
    "bodies", "breaker", "channels", "conf", "connections", "contents", "errors", "inserts",
    "kinds", "message", "models", "muting", "providers", "redaction", "retries", "sealing",
    "shapes", "signals", "timelimits", "tracing", "turnstile",
}  # fmt: skip
BANDS = {**dict.fromkeys(DOORS, 2), **dict.fromkeys(FLOW, 1), **dict.fromkeys(WORDS, 0)}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("notifications", exclude_type_checking_imports=True)


def room(module: str) -> str:
    """The top-level room of a module: `notifications.models.task` is in `models`."""
    return module.split(".")[1]


def arrows(graph: grimp.ImportGraph) -> set[tuple[str, str]]:
    return {
        (importer, imported)
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if "." in importer and "." in imported and ".migrations" not in importer
    }


def test_every_room_has_its_band(graph: grimp.ImportGraph) -> None:
    rooms = {room(module) for module in graph.modules if "." in module} - {"migrations"}
    assert rooms <= set(BANDS)


def test_arrows_point_down(graph: grimp.ImportGraph) -> None:
    up = [f"{a} -> {b}" for a, b in arrows(graph) if BANDS[room(a)] < BANDS[room(b)]]
    assert up == []


def test_no_door_opens_into_another_but_commands_admin_and_worker(graph: grimp.ImportGraph) -> None:
    allowed = {
        ("worker", "jobs"), ("worker", "ringjobs"), ("ringjobs", "jobs"), ("checks", "worker"),
        ("management", "jobs"), ("management", "worker"), ("management", "testing"),
        ("templatetags", "bell"), ("urls", "webhooks"), ("urls", "monitoring"),
        ("worker", "vitals"), ("rest", "monitoring"),
    }  # fmt: skip
    between = {
        (room(a), room(b))
        for a, b in arrows(graph)
        if BANDS[room(a)] == BANDS[room(b)] == 2 and room(a) != room(b)
    }
    assert between <= allowed


def test_there_are_no_cycles(graph: grimp.ImportGraph) -> None:
    rest = {module for module in graph.modules if ".migrations" not in module}
    below = {a: {b for x, b in arrows(graph) if x == a} for a in rest}
    while rest:
        leaves = {module for module in rest if not below[module] & rest}
        assert leaves, f"a cycle among {sorted(rest)}"
        rest -= leaves


def test_no_import_hides_in_a_function() -> None:
    hidden = []
    for path in [*ROOT.glob("notifications/**/*.py"), *ROOT.glob("orders/**/*.py")]:
        tree = ast.parse(path.read_text())
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                hidden += [
                    f"{path.name}:{node.lineno}"
                    for node in ast.walk(function)
                    if isinstance(node, ast.Import | ast.ImportFrom)
                ]
    # The one that must wait: apps are not loaded when Django calls ready().
    assert [place for place in hidden if not place.startswith("apps.py")] == []


def test_init_files_hold_nothing_but_models_and_admin() -> None:
    full = {
        path.parent.name
        for path in ROOT.glob("notifications/**/__init__.py")
        if path.read_text().strip()
    }
    assert full <= {"models", "admin"}
