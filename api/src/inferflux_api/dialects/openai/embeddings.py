"""`/v1/embeddings`."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response, post
from msgspec import Meta

from inferflux_api.dialects.openai.translate import text_or_token_prompts
from inferflux_api.http.body import read_json
from inferflux_api.http.disconnect import unless_disconnected
from inferflux_api.operations import Result
from inferflux_api.server import Server
from inferflux_api.vectors import normalised
from inferflux_core.auth import Principal
from inferflux_core.engine.protocol import Embeddings

__all__ = ["ROUTES", "EmbeddingRequest", "embedding_body"]

MAX_INPUTS: Final = 2048


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/embeddings`.

    Attributes:
        input: a text, texts, token ids, or lists of token ids.
        model: its name.
        encoding_format: `base64` is of little-endian float32.
        dimensions: keep so many numbers of each embedding, and make it of length 1 again. Only models
            that were trained for it (Matryoshka) keep their meaning.
    """

    input: str | list[Any]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None


_decoder = msgspec.json.Decoder(EmbeddingRequest)


@post(
    "/v1/embeddings",
    status_code=200,
    opt={"scope": "generate", "body": EmbeddingRequest},
    tags=["OpenAI"],
)
async def embeddings(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Embed texts; every embedding has the length 1."""
    server: Server = request.app.state.server
    body = await read_json(request, _decoder, **server.body_limits)
    result = await unless_disconnected(request.receive, _embed(server, request.user, body))
    return Response(_content(body, result), media_type="application/json", headers=result.headers)


async def embedding_body(
    server: Server, principal: Principal, body: EmbeddingRequest
) -> tuple[str, bytes]:
    """The id of a request, and the body of its answer.

    Raises:
        InferFluxError: it was refused, or failed.
    """
    result = await _embed(server, principal, body)
    return result.id, _content(body, result)


async def _embed(
    server: Server, principal: Principal, body: EmbeddingRequest
) -> Result[Embeddings]:
    inputs = text_or_token_prompts(body.input, param="input", most=MAX_INPUTS)
    return await server.operations.embed(principal, body.model, inputs)


def _content(body: EmbeddingRequest, result: Result[Embeddings]) -> bytes:
    vectors = normalised(result.answer, body.dimensions)
    as_text = body.encoding_format == "base64"
    content = {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.tobytes()).decode()
                if as_text
                else vector.tolist(),
            }
            for index, vector in enumerate(vectors)
        ],
        "model": result.model,
        "usage": {
            "prompt_tokens": result.answer.num_tokens,
            "total_tokens": result.answer.num_tokens,
        },
    }
    return msgspec.json.encode(content)


ROUTES = [embeddings]
