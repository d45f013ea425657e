"""From a request to an answer that runs, whatever carries it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import msgspec

from inferflux_api.dialects.openai.responses.draft import Draft
from inferflux_api.dialects.openai.responses.events import SSE, Framing
from inferflux_api.dialects.openai.responses.items import input_items
from inferflux_api.dialects.openai.responses.rendering import ResponseRenderer
from inferflux_api.dialects.openai.responses.schemas import Reasoning, ResponsesRequest
from inferflux_api.dialects.openai.responses.store import (
    ResponseStore,
    StoredResponse,
    find_item,
    history,
)
from inferflux_api.dialects.openai.responses.translate import (
    Wanted,
    conversation,
    echo,
    generation_request,
)
from inferflux_api.dialects.openai.responses.truncation import shortened
from inferflux_api.generation import GenerationRequest
from inferflux_api.pipeline import Generation
from inferflux_api.server import Server
from inferflux_core.auth import Principal
from inferflux_core.errors import ContextLengthExceededError

__all__ = ["draft_of", "keep_in", "open_generation", "renderer_of", "understand"]


def understand(
    body: ResponsesRequest, tenant: str, stores: Sequence[ResponseStore]
) -> tuple[Wanted, GenerationRequest]:
    """What a request asks for.

    Args:
        body: of the request.
        tenant: who asks.
        stores: where earlier responses are looked for.

    Raises:
        InvalidRequestError: it asks for what does not exist, or is not known.
    """
    earlier = history(stores, tenant, body.previous_response_id)
    items = input_items(body.input, lambda name: find_item(stores, tenant, name))
    wanted = Wanted(body, items, conversation(body, earlier + items))
    return wanted, generation_request(wanted)


async def open_generation(
    server: Server, principal: Principal, wanted: Wanted, request: GenerationRequest
) -> Generation:
    """Start to answer. With `truncation: auto`, what does not fit is tried once more, shortened.

    Raises:
        InferFluxError: it was refused, or failed.
    """
    try:
        return await server.pipeline.open(principal, request)
    except ContextLengthExceededError:
        if wanted.body.truncation != "auto":
            raise
    short = await shortened(
        server, request.model, wanted.conversation, wanted.body.max_output_tokens
    )
    return await server.pipeline.open(principal, replace(request, prompts=[short.prompt()]))


def draft_of(wanted: Wanted, generation: Generation) -> Draft:
    """The response to a request that is being answered."""
    return Draft(
        id=f"resp_{generation.id}",
        created=generation.created,
        model=generation.model_name,
        echo=echo(wanted.body),
        usage=generation.usage,
    )


def keep_in(
    stores: Sequence[ResponseStore],
    tenant: str,
    wanted: Wanted,
    draft: Draft,
    body: bytes,
    events: bytes = b"",
) -> None:
    """Store a response that has ended.

    Args:
        stores: which get it.
        tenant: whose it is.
        wanted: what was asked for.
        draft: the response.
        body: the same as JSON.
        events: its stream, if that may be asked for.
    """
    stored = StoredResponse(
        id=draft.id,
        tenant=tenant,
        body=body,
        input=msgspec.json.encode(wanted.items),
        previous=wanted.body.previous_response_id,
        items=tuple(item["id"] for item in [*wanted.items, *draft.output]),
        events=events,
    )
    for store in stores:
        store.put(stored)


def renderer_of(
    wanted: Wanted,
    draft: Draft,
    tenant: str,
    stores: Sequence[ResponseStore],
    *,
    framing: Framing = SSE,
    silent: bool = False,
) -> ResponseRenderer:
    """What writes a response, and keeps it in `stores` when it has ended."""
    return ResponseRenderer(
        draft,
        partial(keep_in, stores, tenant, wanted, draft),
        framing=framing,
        summary=(wanted.body.reasoning or Reasoning()).summary is not None,
        silent=silent,
    )
