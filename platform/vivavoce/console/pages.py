"""How a page is made: one environment for all templates, and the headers that every page carries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

CONSOLE = "/console"
"""Where operators work, who have an account."""

_HERE = Path(__file__).parent
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
ASSETS = {path.name: (path.read_text(encoding="utf-8"), _TYPES[path.suffix]) for path in (_HERE / "static").iterdir()}
"""What pages load: text and media type by name."""

HEADERS = {
    # No inline script or style anywhere, nothing from elsewhere, and nobody may put a page into theirs.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; media-src blob:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

_templates = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters["moment"] = lambda time: f"{time:%Y-%m-%d %H:%M:%S}"
_templates.filters["lasting"] = lambda span: f"{span.days} d" if span.days else str(span).partition(".")[0]
_templates.filters["words"] = lambda name: name.replace("_", " ")


def browses(request: Request) -> bool:
    """Whether an answer is for a person at a browser, and not for a program."""
    return "text/html" in request.headers.get("accept", "")


def page(
    template: str,
    status: int = 200,
    *,
    headers: Mapping[str, str] = HEADERS,
    **values: Any,  # noqa: ANN401 - whatever a template shows
) -> HTMLResponse:
    """Render a template of this package."""
    return HTMLResponse(_templates.get_template(template).render(**values), status, headers)
