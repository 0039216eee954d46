"""Traces (OpenTelemetry): one from a request through its job to the release, across processes and restarts.

The way on is carried in the job's row (W3C Trace Context's `traceparent`), since the row is the truth about a job and
its doorbell may be lost. Nothing is recorded before `export_traces`; attributes are ids and codes of our own, and what
an error says stays out of them: it may quote anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from vivavoce.ledger.tables import Job

__all__ = ["Span", "SpanKind", "StatusCode", "export_traces", "job_attributes", "span", "trace_id", "traceparent"]

TRACEPARENT = "traceparent"
TRACEPARENT_LENGTH = 55
"""Of version 00: 2 + 32 + 16 + 2 hexadecimal digits, and 3 hyphens."""
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "http/protobuf"

_tracer = trace.get_tracer("vivavoce")
_w3c = TraceContextTextMapPropagator()


def export_traces(service: str) -> bool:
    """Send this process's spans by OTLP over HTTP, if `OTEL_EXPORTER_OTLP_ENDPOINT` is set; returns whether it is.

    Further `OTEL_*` variables (headers, sampler, resource) are the SDK's own. A collector that is away costs spans, and
    nothing else.

    Args:
        service: `service.name` of the spans, where `OTEL_SERVICE_NAME` is not set.

    Raises:
        ModuleNotFoundError: The extra `otel` is not installed.
        ValueError: Another protocol is asked for.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return False
    for name in _PROTOCOLS:
        if os.environ.get(name, _SPOKEN) != _SPOKEN:
            raise ValueError(f"{name}: only {_SPOKEN} is spoken here")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", service)})
    provider = TracerProvider(resource=named)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return True


@contextmanager
def span(
    name: str,
    attributes: Mapping[str, str | int] | None = None,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: str | None = None,
) -> Iterator[Span]:
    """Record a piece of work; an error that passes through is marked by its type alone.

    Args:
        parent: `traceparent` of the span that this one goes on from, in whatever process that was; by default the
            present one. What is no `traceparent` begins a new trace.
    """
    context = None if parent is None else _w3c.extract({TRACEPARENT: parent}, Context())
    with _tracer.start_as_current_span(
        name, context, kind, attributes, record_exception=False, set_status_on_exception=False
    ) as here:
        try:
            yield here
        except BaseException as error:
            here.set_attribute("error.type", type(error).__name__)
            here.set_status(StatusCode.ERROR)
            raise


def job_attributes(job: Job) -> dict[str, str | int]:
    """Give what a span may say of a job."""
    return {"vivavoce.job_id": job.id, "vivavoce.job_kind": str(job.kind), "vivavoce.leaf": job.intent_leaf}


def traceparent() -> str | None:
    """Name the present span, for whoever goes on from it; None where nothing is traced."""
    carrier: dict[str, str] = {}
    _w3c.inject(carrier)
    return carrier.get(TRACEPARENT)


def trace_id() -> dict[str, str]:
    """Give the present trace's id for log lines, as `{"trace_id": ...}`; empty where nothing is traced."""
    present = trace.get_current_span().get_span_context()
    return {"trace_id": format_trace_id(present.trace_id)} if present.is_valid else {}
