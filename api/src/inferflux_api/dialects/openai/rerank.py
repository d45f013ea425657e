"""`/v1/rerank`, as Jina, Cohere, vLLM and llama-server have it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, post
from msgspec import Meta

from inferflux_api.http.body import read_json
from inferflux_api.http.disconnect import unless_disconnected
from inferflux_api.server import Server

__all__ = ["ROUTES", "RerankDocument", "RerankRequest"]


class RerankDocument(msgspec.Struct, frozen=True):
    """A document as an object."""

    text: str


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/rerank`.

    Attributes:
        query: what is looked for.
        documents: where.
        model: its name.
        top_n: return so many of the best documents; all by default.
        return_documents: repeat their texts in the answer, as is the default of Jina and vLLM.
    """

    query: str
    documents: Annotated[list[str | RerankDocument], Meta(min_length=1, max_length=2048)]
    model: str | None = None
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None


_decoder = msgspec.json.Decoder(RerankRequest)


@post(
    ["/v1/rerank", "/rerank"],
    status_code=200,
    opt={"scope": "generate", "body": RerankRequest},
    tags=["OpenAI"],
)
async def rerank(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Sort documents by how well they answer a query, the best one first.

    Models that were made to rank give their own scores, which need not lie between 0 and 1. Of other
    models `relevance_score` is the cosine of the angle between the embeddings of query and document.
    """
    server: Server = request.app.state.server
    body = await read_json(request, _decoder, **server.body_limits)
    texts = [
        document if isinstance(document, str) else document.text for document in body.documents
    ]
    result = await unless_disconnected(
        request.receive, server.operations.rank(request.user, body.model, body.query, texts)
    )
    scores = result.answer.scores
    order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)[: body.top_n]
    results: list[dict[str, Any]] = [
        {"index": index, "relevance_score": scores[index]} for index in order
    ]
    if body.return_documents is not False:
        for entry in results:
            entry["document"] = {"text": texts[entry["index"]]}
    content = {
        "id": f"rerank-{result.id}",
        "object": "list",
        "model": result.model,
        "results": results,
        "usage": {
            "prompt_tokens": result.answer.num_tokens,
            "total_tokens": result.answer.num_tokens,
        },
    }
    return Response(
        msgspec.json.encode(content), media_type="application/json", headers=result.headers
    )


ROUTES = [rerank]
