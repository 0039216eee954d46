"""The API: `create_app` puts gate, errors and routes together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from limits.storage import MemoryStorage

from vivavoce.api import document, metrics, problems
from vivavoce.api.gate import Gate
from vivavoce.api.routes import (
    audit,
    batches,
    challenges,
    consents,
    conversion,
    detection,
    health,
    job_events,
    jobs,
    outputs,
    reviews,
    rights,
    speech,
    subject,
    text_to_speech,
    usage,
    voices,
    webhooks,
)
from vivavoce.api.services import Services
from vivavoce.console import entrance, public, recording
from vivavoce.console.routers import ROUTERS
from vivavoce.console.strangers import Patience
from vivavoce.settings import ApiSettings

_MAX_FORM_FIELDS = 500
_MAX_FIELD_BYTES = 64 * 1024
# FastAPI's own spans hold paths, and a link's path is its secret; its logs quote bodies. `metrics.Counting` tells
# traces what they may know. FASTAPI_OTEL_AUTO_CONFIGURE must not bring them back either.
_SILENT: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def create_app(settings: ApiSettings) -> FastAPI:
    """Make the application. Keys and schema must be there: `vivavoce serve` makes them, or an operator does.

    Raises:
        KeyRingError, SchemaError, ValueError: What is missing. Nothing is served without it.
    """
    services = Services.open(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        services.close()

    app = FastAPI(
        title="Vivavoce",
        version=version("vivavoce"),
        lifespan=lifespan,
        # Their pages load scripts from elsewhere; the document itself stays at /openapi.json.
        docs_url=None,
        redoc_url=None,
        telemetry=_SILENT,
        form_limits={"max_files": 1, "max_fields": _MAX_FORM_FIELDS, "max_part_size": _MAX_FIELD_BYTES},
    )
    app.state.services = services
    app.state.patience = Patience(settings.public_detections_per_minute)
    app.state.throttle = entrance.Throttle(MemoryStorage())
    problems.install(app)
    app.add_middleware(Gate, services=services)
    app.state.meter = metrics.Meter(services)
    # Added last, so that it is the outermost: what the gate answers is counted, too.
    app.add_middleware(metrics.Counting, meter=app.state.meter)
    for module in (consents, voices, speech):
        app.include_router(module.router, responses=problems.OPENAI_PROBLEMS)
    for module in (
        challenges,
        text_to_speech,
        conversion,
        detection,
        jobs,
        job_events,
        batches,
        outputs,
        audit,
        reviews,
        rights,
        usage,
        webhooks,
        subject,
        public,
        recording,
    ):
        app.include_router(module.router, responses=problems.PROBLEMS)
    for router in ROUTERS:
        app.include_router(router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    document.complete(app)
    return app
