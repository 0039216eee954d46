"""The API: `create_app` puts gate, errors and routes together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from vivavoce.api import problems
from vivavoce.api.gate import Gate
from vivavoce.api.routes import (
    audit,
    consents,
    conversion,
    detection,
    health,
    jobs,
    outputs,
    rights,
    speech,
    subject,
    text_to_speech,
    voices,
)
from vivavoce.api.services import Services
from vivavoce.console import public
from vivavoce.console.strangers import Patience
from vivavoce.settings import ApiSettings

_MAX_FORM_FIELDS = 500
_MAX_FIELD_BYTES = 64 * 1024


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
        form_limits={"max_files": 1, "max_fields": _MAX_FORM_FIELDS, "max_part_size": _MAX_FIELD_BYTES},
    )
    app.state.services = services
    app.state.patience = Patience(settings.public_detections_per_minute)
    problems.install(app)
    app.add_middleware(Gate, services=services)
    for module in (consents, voices, speech):
        app.include_router(module.router, responses=problems.OPENAI_PROBLEMS)
    for module in (text_to_speech, conversion, detection, jobs, outputs, audit, rights, subject, public):
        app.include_router(module.router, responses=problems.PROBLEMS)
    app.include_router(health.router)
    return app
