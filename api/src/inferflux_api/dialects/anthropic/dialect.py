"""Anthropic's API."""

from __future__ import annotations

from inferflux_api.dialects.anthropic import routes
from inferflux_api.dialects.anthropic.errors import respond_error
from inferflux_api.dialects.anthropic.models import VERSION_HEADER
from inferflux_api.dialects.dialect import Dialect

__all__ = ["ANTHROPIC"]

ANTHROPIC = Dialect(
    name="anthropic",
    routes=routes.ROUTES,
    prefixes=("/v1/messages",),
    respond_error=respond_error,
    header=VERSION_HEADER,
)
