"""Spans lead from the request to the provider, where the host has OpenTelemetry."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from notifications import jobs, operations
from notifications.dispatch import notify
from notifications.models import Notification, Task
from notifications.tasks import task
from tests.scripted import REFUSED, Note, Script, scripted

pytestmark = pytest.mark.django_db(transaction=True)

BOB = "bob@example.com"


@task(name="tests.tracing.tell")
def tell() -> None:
    notify(Note, to=BOB)


@task(name="tests.tracing.fail")
def fail() -> None:
    raise RuntimeError(BOB)


@pytest.fixture(autouse=True)
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # Not set_tracer_provider, which takes the first for good.
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


def request() -> Any:
    """A span as that of a web request."""
    return TracerProvider().get_tracer("web").start_as_current_span("POST /checkout/")


def test_an_event_its_message_and_the_answer_are_one_trace(spans: InMemorySpanExporter) -> None:
    with request() as asked, transaction.atomic():
        tell.enqueue()
    jobs.serve("default")
    jobs.serve("note")
    run, sent = spans.get_finished_spans()
    assert (run.name, sent.name) == ("run tests.tracing.tell", "send note")
    assert run.parent.span_id == asked.get_span_context().span_id
    assert sent.parent.span_id == run.context.span_id
    assert {each.context.trace_id for each in (run, sent)} == {asked.get_span_context().trace_id}
    row = Notification.objects.get()
    assert dict(sent.attributes) == {
        "notifications.id": row.pk, "notifications.queue": "note",
        "notifications.title": "test_note", "notifications.attempt": 1,
        "notifications.provider": "first", "notifications.outcome": "accepted",
        "notifications.code": "250",
    }  # fmt: skip


def test_what_fails_is_an_error_without_its_words(
    script: Script, spans: InMemorySpanExporter
) -> None:
    script.answer(BOB, REFUSED)
    with transaction.atomic():
        notify(Note, to=BOB)
        fail.using(retry=None).enqueue()
    jobs.serve("note")
    jobs.serve("default")
    sent, run, *_more = spans.get_finished_spans()
    assert (sent.status.status_code.name, sent.status.description) == ("ERROR", "550")
    assert (run.status.status_code.name, run.status.description) == ("ERROR", "RuntimeError")
    assert BOB not in "".join(each.to_json() for each in spans.get_finished_spans())


def test_without_a_span_there_is_none_to_belong_to(spans: InMemorySpanExporter) -> None:
    with transaction.atomic():
        [row] = notify(Note, to=BOB)
    jobs.serve("note")
    assert row.trace == ""
    [sent] = spans.get_finished_spans()
    assert sent.parent is None
    row.refresh_from_db()
    with request() as again:
        second = operations.resend(row)
    assert format(again.get_span_context().trace_id, "032x") in second.trace


def test_where_nothing_listens_a_row_still_tells_its_trace() -> None:
    with request() as asked, transaction.atomic():
        notify(Note, to=BOB)
        tell.enqueue()
    jobs.serve("default")
    jobs.serve("note")
    trace_id = format(asked.get_span_context().trace_id, "032x")
    assert trace_id in Task.objects.get().trace
    assert {trace_id in each.trace for each in Notification.objects.all()} == {True, False}
    assert set(Notification.objects.values_list("state", flat=True)) == {"sent"}


def test_without_the_package_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    with request(), transaction.atomic():
        monkeypatch.delitem(sys.modules, "opentelemetry.trace")
        notify(Note, to=BOB)
        tell.enqueue()
    jobs.serve("default")
    jobs.serve("note")
    assert set(Notification.objects.values_list("trace", "state")) == {("", "sent")}
    assert Task.objects.get().trace == ""


def test_the_package_is_not_loaded_for_those_who_do_not_use_it() -> None:
    code = (
        "import sys; from notifications import tracing\n"
        "assert tracing.parent() == '' and 'opentelemetry' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
