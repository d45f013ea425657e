"""Ollama's API."""

from __future__ import annotations

from inferflux_api.dialects.dialect import Dialect
from inferflux_api.dialects.ollama import library, models, routes
from inferflux_api.dialects.ollama.errors import respond_error

__all__ = ["OLLAMA"]

OLLAMA = Dialect(
    name="ollama",
    routes=[*routes.ROUTES, *models.ROUTES, *library.ROUTES],
    prefixes=("/api/",),
    respond_error=respond_error,
)
