"""Where traces are sent to: a collector of our own, which reads them as OTLP over HTTP says."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

WAIT_SECONDS = 20


@dataclass(frozen=True)
class Span:
    """One span as it was received."""

    service: str
    span_id: str
    parent_span_id: str
    attributes: dict[str, str | int]


class Collector(ThreadingHTTPServer):
    """Keeps the bodies that it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        self.settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def trace(self, trace_id: str, count: int) -> dict[str, Span]:
        """Wait until a trace has so many spans; returns them by name."""
        deadline = time.monotonic() + WAIT_SECONDS
        while len(found := dict(self._spans(trace_id))) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(found) == count, found
        return found

    def _spans(self, trace_id: str) -> Iterator[tuple[str, Span]]:
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = str(_attributes(resource.resource)["service.name"])
                for span in [span for scope in resource.scope_spans for span in scope.spans]:
                    if span.trace_id.hex() == trace_id:
                        yield (
                            span.name,
                            Span(service, span.span_id.hex(), span.parent_span_id.hex(), _attributes(span)),
                        )


def _attributes(owner: Any) -> dict[str, str | int]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in owner.attributes}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def running_collector() -> Iterator[Collector]:
    """Run a collector on loopback."""
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
