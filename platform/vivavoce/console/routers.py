"""All that operators reach."""

from __future__ import annotations

from vivavoce.console import audit_pages, consents, entrance, entrance_openid, keys, outputs, overview, reviews, tenants

ROUTERS = (
    entrance.router,
    entrance_openid.router,
    overview.router,
    reviews.router,
    consents.router,
    outputs.router,
    audit_pages.router,
    keys.router,
    tenants.router,
)
"""The console's routes."""
