"""`/metrics` in Prometheus' text format, and the middleware that counts requests and gives each one an id.

Labels are route templates, methods, statuses, and codes of our own: nothing that a caller or speaker wrote.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vivavoce.api.problems import Problem
from vivavoce.api.services import Here, Services, now
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.tables import AuditCheckpoint, Job, JobStatus
from vivavoce.ledger.tracing import TRACEPARENT, Span, SpanKind, StatusCode, span, trace_id
from vivavoce.ledger.workers import Sighting, present

router = APIRouter(tags=["health"])

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


class Meter:
    """The counters of one application."""

    def __init__(self, services: Services) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "vivavoce_requests", "Requests answered", ("method", "route", "status"), registry=self.registry
        )
        self.refusals = Counter("vivavoce_refusals", "Requests refused, by reason", ("code",), registry=self.registry)
        self.registry.register(_Ledger(services))


class _Ledger(Collector):
    """What the rows say, read when it is asked for: the same whichever API host answers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read jobs, queue and log."""
        moment = now()
        with self._services.database.read() as session:
            counts: dict[str, int] = dict(session.execute(select(Job.status, func.count()).group_by(Job.status)).all())
            oldest = session.scalar(select(func.min(Job.created_at)).where(Job.status == JobStatus.QUEUED))
            size = self._services.log.size(session)
            head = session.scalars(select(AuditCheckpoint).order_by(AuditCheckpoint.size.desc()).limit(1)).first()
            workers = present(session, moment)
        jobs = GaugeMetricFamily("vivavoce_jobs", "Jobs by state", labels=["state"])
        for status in JobStatus:
            jobs.add_metric([status.value], counts.get(status.value, 0))
        yield jobs
        waited = (moment - oldest).total_seconds() if oldest else 0.0
        yield GaugeMetricFamily("vivavoce_queue_age_seconds", "How long the oldest queued job has waited", waited)
        yield GaugeMetricFamily("vivavoce_log_leaves", "Leaves of the audit log", size)
        yield GaugeMetricFamily(
            "vivavoce_log_head_leaves", "Leaves under the last signed head", head.size if head else 0
        )
        if head is not None:
            age = (moment - head.created_at).total_seconds()
            yield GaugeMetricFamily("vivavoce_log_head_age_seconds", "Age of the last signed head", age)
        yield from _of_workers(workers)


def _of_workers(workers: Sequence[Sighting]) -> Iterator[Metric]:
    count = GaugeMetricFamily("vivavoce_workers", "Worker processes by state", labels=["state"])
    for state in ("idle", "busy", "silent"):
        count.add_metric([state], sum(one.state == state for one in workers))
    yield count
    heard = [(one.id, one.worker) for one in workers if one.worker and not one.silent]
    free = GaugeMetricFamily(
        "vivavoce_device_free_bytes", "Free memory of a worker's device", labels=["worker", "device"]
    )
    whole = GaugeMetricFamily("vivavoce_device_bytes", "Memory of a worker's device", labels=["worker", "device"])
    for name, worker in heard:
        free.add_metric([name, worker.device], worker.free_bytes)
        whole.add_metric([name, worker.device], worker.memory_bytes)
    yield from (free, whole)


class Counting:
    """ASGI middleware around everything else: a request's id in the log lines and the answer, and its count."""

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self._app = app
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on and count its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] in _PROBES:
            await self._count(scope, receive, send, None)
            return
        parent = Headers(scope=scope).get(TRACEPARENT)
        with span(
            _method(scope), {"http.request.method": _method(scope)}, kind=SpanKind.SERVER, parent=parent
        ) as traced:
            await self._count(scope, receive, send, traced)

    async def _count(self, scope: Scope, receive: Receive, send: Send, traced: Span | None) -> None:
        request_id, status = new_id("req"), 500
        state = scope.setdefault("state", {})

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id, **trace_id()):
            try:
                await self._app(scope, receive, counted)
            finally:
                # A request that the gate answered, or that found nothing, has no route; its path is the caller's text.
                route = getattr(scope.get("route"), "path", "none")
                self._meter.requests.labels(_method(scope), route, str(status)).inc()
                if "problem" in state:
                    self._meter.refusals.labels(state["problem"]).inc()
                if traced is not None:
                    _tell(traced, scope, route, status, request_id)


_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_PROBES = ("/healthz", "/readyz", "/metrics")
"""Asked every few seconds by machines: not worth a trace."""


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "other"


def _tell(traced: Span, scope: Scope, route: str, status: int, request_id: str) -> None:
    """Complete a request's span by OpenTelemetry's conventions for HTTP; its path, the caller's text, stays out."""
    traced.update_name(f"{_method(scope)} {route}")
    traced.set_attribute("http.route", route)
    traced.set_attribute("http.response.status_code", status)
    traced.set_attribute("vivavoce.request_id", request_id)
    if "problem" in scope["state"]:
        traced.set_attribute("vivavoce.problem", scope["state"]["problem"])
    if status >= 500:
        traced.set_attribute("error.type", str(status))
        traced.set_status(StatusCode.ERROR)


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request, here: Here) -> PlainTextResponse:
    """Counters of this host and the state of the installation: for whoever has the token, or sits at this machine."""
    _require_access(request, here)
    meter = request.app.state.meter
    assert isinstance(meter, Meter)  # noqa: S101 - set before the first request
    return PlainTextResponse(generate_latest(meter.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _require_access(request: Request, here: Services) -> None:
    token = here.settings.metrics_token
    if token is not None:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {token.get_secret_value()}".encode()):
            raise Problem(
                401, "metrics_token_wrong", "This needs the metrics token.", headers={"WWW-Authenticate": "Bearer"}
            )
        return
    if not is_local(request):
        raise Problem(403, "metrics_local_only", "Without VIVAVOCE_METRICS_TOKEN only this machine may read metrics.")


def is_local(request: Request) -> bool:
    """Whether a request comes from this very machine."""
    # A proxy on this machine also comes from loopback: what it forwards does not count as local.
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False
