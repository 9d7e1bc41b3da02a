"""OpenTelemetry, if the host uses it: what becomes of a message belongs to the trace of the request
that asked for it.

A row carries the `traceparent` (W3C Trace Context, §3.2) that was current when it was written. The
run of a task is a span, so that what it asks for belongs there too; each provider call is one. The
package opentelemetry-api is not loaded here: who uses it has loaded it. Where nobody has set a
tracer provider there are no spans, which would only take time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from notifications.message import Outcome
    from notifications.models import Notification, Task

TRACER = "notifications"
LONGEST = 55  # characters of a traceparent of version 00


def parent() -> str:
    """The `traceparent` of the current span; empty without one."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not trace.get_current_span().get_span_context().is_valid:
        return ""
    carrier: dict[str, str] = {}
    _propagator().inject(carrier)
    return carrier.get("traceparent", "")[:LONGEST]


@contextmanager
def running(row: Task) -> Iterator[None]:
    """The span of one run of a task. What is raised in it is its error, without the words."""
    trace = _listening()
    if trace is None:
        yield
        return
    with trace.get_tracer(TRACER).start_as_current_span(
        f"run {row.name}",
        context=_context(row),
        kind=trace.SpanKind.CONSUMER,
        attributes=_facts(row),
        record_exception=False,  # its message may hold anything
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except BaseException as error:
            span.set_status(trace.StatusCode.ERROR, type(error).__qualname__)
            raise


def record(row: Notification, outcome: Outcome, *, provider: str, milliseconds: int) -> None:
    """The span of one provider call, which has just ended."""
    trace = _listening()
    if trace is None:
        return
    ended = time.time_ns()
    span = trace.get_tracer(TRACER).start_span(
        f"send {row.channel}",
        context=_context(row),
        kind=trace.SpanKind.PRODUCER,
        start_time=ended - milliseconds * 1_000_000,
        attributes={
            **_facts(row),
            "notifications.provider": provider,
            "notifications.outcome": outcome.verdict.value,
            "notifications.code": outcome.code,
        },
    )
    if not outcome.accepted:
        span.set_status(trace.StatusCode.ERROR, outcome.code)
    span.end(ended)


def _listening() -> Any:
    """The module opentelemetry.trace where spans go somewhere, else None."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    return trace


def _context(row: Notification | Task) -> Any:
    """Where its spans belong; a trace of their own if nobody traced the request."""
    return _propagator().extract({"traceparent": row.trace})


def _propagator() -> Any:
    module = import_module("opentelemetry.trace.propagation.tracecontext")
    return module.TraceContextTextMapPropagator()


def _facts(row: Notification | Task) -> dict[str, str | int]:
    return {
        "notifications.id": row.pk,
        "notifications.queue": row.queue,
        "notifications.title": row.title,
        "notifications.attempt": row.attempts + 1,
    }
