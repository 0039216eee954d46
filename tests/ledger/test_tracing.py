"""Traces say where work went on, by ids and codes alone, and only where they were asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.consent.world import World

from vivavoce.ledger import tracing
from vivavoce.ledger.tables import Job

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def test_nothing_is_recorded_unless_an_endpoint_is_named(monkeypatch: pytest.MonkeyPatch, small_world: World) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert not tracing.export_traces("test")
    with tracing.span("work") as here:
        assert not here.is_recording() and tracing.traceparent() is None and tracing.trace_id() == {}
        job = small_world.admit(small_world.submission(small_world.voice(small_world.consent()))).id
    with small_world.database.read() as session:
        assert session.get_one(Job, job).traceparent is None


def test_another_protocol_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_PROTOCOL"):
        tracing.export_traces("test")


def test_a_jobs_row_carries_the_way_on(recorded: InMemorySpanExporter, small_world: World) -> None:
    with tracing.span("request") as request:
        job = small_world.admit(small_world.submission(small_world.voice(small_world.consent()))).id
    with small_world.database.read() as session:
        kept = session.get_one(Job, job).traceparent
    with tracing.span("later", parent=kept):
        pass
    later = recorded.get_finished_spans()[-1]
    assert later.parent is not None and later.parent.span_id == request.get_span_context().span_id


@pytest.mark.parametrize("given", ["", "x", "00-" + "0" * 32 + "-b7ad6b7169203331-01", PARENT.upper() + "\n"])
def test_what_is_no_traceparent_begins_a_new_trace(recorded: InMemorySpanExporter, given: str) -> None:
    with tracing.span("request", parent=given):
        assert tracing.trace_id()["trace_id"] != PARENT[3:35]
    (only,) = recorded.get_finished_spans()
    assert only.parent is None


def test_an_errors_words_are_not_told(recorded: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="Jane"), tracing.span("work", parent=PARENT):
        raise ValueError("Jane Doe said")
    (only,) = recorded.get_finished_spans()
    assert "Jane" not in only.to_json() and not only.events
    assert only.attributes is not None and only.attributes["error.type"] == "ValueError"
    assert not only.status.is_ok and only.context is not None and f"{only.context.trace_id:032x}" == PARENT[3:35]
