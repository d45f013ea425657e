"""OpenAI's API, with the extensions of servers that speak it."""

from __future__ import annotations

from litestar import Response

from inferflux_api.dialects.dialect import Dialect
from inferflux_api.dialects.openai import (
    adapters,
    batches,
    embeddings,
    files,
    models,
    moderations,
    rerank,
    routes,
    tokenization,
)
from inferflux_api.dialects.openai.errors import error_body, error_headers
from inferflux_api.dialects.openai.responses import routes as responses
from inferflux_api.dialects.openai.responses.background import BackgroundRuns
from inferflux_api.dialects.openai.responses.store import ResponseStore
from inferflux_core.errors import InferFluxError

__all__ = ["OPENAI"]


def _respond_error(error: InferFluxError) -> Response[bytes]:
    return Response(error_body(error), status_code=error.status, headers=error_headers(error))


OPENAI = Dialect(
    name="openai",
    routes=[
        *routes.ROUTES,
        *models.ROUTES,
        *embeddings.ROUTES,
        *rerank.ROUTES,
        *tokenization.ROUTES,
        *adapters.ROUTES,
        *moderations.ROUTES,
        *files.ROUTES,
        *batches.ROUTES,
        *responses.ROUTES,
    ],
    prefixes=("/",),
    respond_error=_respond_error,
    state={"responses": ResponseStore, "background": BackgroundRuns},
)
