"""LM Studio's APIs."""

from __future__ import annotations

from inferflux_api.dialects.dialect import Dialect
from inferflux_api.dialects.lmstudio import v0, v1, v1_downloads, v1_models
from inferflux_api.dialects.lmstudio.errors import respond_error
from inferflux_api.dialects.lmstudio.memory import ConversationMemory
from inferflux_api.dialects.lmstudio.sdk import routes as sdk

__all__ = ["LMSTUDIO"]

LMSTUDIO = Dialect(
    name="lmstudio",
    routes=[*v0.ROUTES, *v1.ROUTES, *v1_models.ROUTES, *v1_downloads.ROUTES, *sdk.ROUTES],
    prefixes=("/api/v0/", "/api/v1/", "/lmstudio-greeting"),
    respond_error=respond_error,
    state={"memory": ConversationMemory},
)
