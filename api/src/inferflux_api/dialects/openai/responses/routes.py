"""`/v1/responses` over HTTP."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.params import FromPath
from litestar.response import Stream

from inferflux_api.dialects.openai.paging import page
from inferflux_api.dialects.openai.responses.answering import (
    draft_of,
    open_generation,
    renderer_of,
    understand,
)
from inferflux_api.dialects.openai.responses.background import BackgroundRun, BackgroundRuns
from inferflux_api.dialects.openai.responses.events import split_events
from inferflux_api.dialects.openai.responses.rendering import ResponseRenderer
from inferflux_api.dialects.openai.responses.schemas import ResponsesRequest
from inferflux_api.dialects.openai.responses.socket import responses_socket
from inferflux_api.dialects.openai.responses.store import ResponseStore
from inferflux_api.http.body import read_json
from inferflux_api.http.disconnect import unless_disconnected
from inferflux_api.http.streaming import respond_stream
from inferflux_api.pipeline import Generation
from inferflux_api.server import Server
from inferflux_core.errors import InvalidRequestError

__all__ = ["ROUTES"]

_ITEMS_PER_PAGE: Final = 20
_decoder = msgspec.json.Decoder(ResponsesRequest)


@post(
    "/v1/responses",
    status_code=200,
    opt={"scope": "generate", "body": ResponsesRequest},
    tags=["OpenAI"],
)
async def create(request: Request[Any, Any, Any]) -> Response[Any]:
    """Answer; at once, as it comes, or in the background."""
    server: Server = request.app.state.server
    body = await read_json(request, _decoder, **server.body_limits)
    if body.background:
        return _create_in_background(request, body)
    tenant = request.user.tenant
    store = _store(request)
    wanted, generated = understand(body, tenant, [store])
    generation = await unless_disconnected(
        request.receive, open_generation(server, request.user, wanted, generated)
    )
    kept = [] if body.store is False else [store]
    renderer = renderer_of(wanted, draft_of(wanted, generation), tenant, kept)
    if body.stream:
        return respond_stream(server, generation, renderer)
    content = await unless_disconnected(request.receive, _whole(generation, renderer))
    return _json(content, generation.headers)


async def _whole(generation: Generation, renderer: ResponseRenderer) -> bytes:
    try:
        async for delta in generation.deltas():
            renderer.delta(delta)
    finally:
        await generation.close()
    await renderer.end()
    return renderer.body


def _create_in_background(request: Request[Any, Any, Any], body: ResponsesRequest) -> Response[Any]:
    server: Server = request.app.state.server
    if body.store is False:
        raise InvalidRequestError(
            "a response in the background is fetched later, so store must not be false",
            param="store",
        )
    run = _runs(request).start(server, request.user, body, _store(request))
    return _follow(run, -1) if body.stream else _json(run.body())


@post(
    "/v1/responses/input_tokens",
    status_code=200,
    opt={"scope": "generate", "body": ResponsesRequest},
    tags=["OpenAI"],
)
async def count_input_tokens(request: Request[Any, Any, Any]) -> Response[bytes]:
    """How many tokens the model would be given."""
    server: Server = request.app.state.server
    body = await read_json(request, _decoder, **server.body_limits)
    _, generated = understand(body, request.user.tenant, [_store(request)])
    result = await server.operations.tokenize(request.user, body.model, generated.prompts[0])
    count = {"object": "response.input_tokens", "input_tokens": len(result.answer.token_ids)}
    return _json(msgspec.json.encode(count), result.headers)


@get("/v1/responses/{response_id:str}", opt={"scope": "generate"}, tags=["OpenAI"])
async def retrieve(request: Request[Any, Any, Any], response_id: FromPath[str]) -> Response[Any]:
    """A response as it is now; or its stream, if it was created in the background and streamed."""
    tenant = request.user.tenant
    run = _runs(request).find(tenant, response_id)
    if request.query_params.get("stream", "false").lower() != "true":
        return _json(
            run.body() if run is not None else _store(request).get(tenant, response_id).body
        )
    after = _starting_after(request)
    if run is not None and run.streamed:
        return _follow(run, after)
    events = b"" if run is not None else _store(request).get(tenant, response_id).events
    if not events:
        raise InvalidRequestError(
            "only responses created with background and stream can be streamed later; leave out stream",
            param="stream",
        )
    return Response(b"".join(split_events(events)[after + 1 :]), media_type="text/event-stream")


@delete(
    "/v1/responses/{response_id:str}", status_code=200, opt={"scope": "generate"}, tags=["OpenAI"]
)
async def forget(request: Request[Any, Any, Any], response_id: FromPath[str]) -> dict[str, Any]:
    """Forget a response; if it still runs, it ends."""
    tenant = request.user.tenant
    run = _runs(request).find(tenant, response_id)
    if run is not None:
        await run.cancel()
    _store(request).delete(tenant, response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@post(
    "/v1/responses/{response_id:str}/cancel",
    status_code=200,
    opt={"scope": "generate"},
    tags=["OpenAI"],
)
async def cancel(request: Request[Any, Any, Any], response_id: FromPath[str]) -> Response[bytes]:
    """End a response that runs in the background; one that has ended stays as it is."""
    tenant = request.user.tenant
    run = _runs(request).find(tenant, response_id)
    if run is not None:
        await run.cancel()
    stored = _store(request).get(tenant, response_id)
    if not msgspec.json.decode(stored.body)["background"]:
        raise InvalidRequestError(
            "only responses created with background: true can be cancelled; close the connection "
            "to end another",
            param="response_id",
        )
    return _json(stored.body)


@get("/v1/responses/{response_id:str}/input_items", opt={"scope": "generate"}, tags=["OpenAI"])
async def list_input_items(
    request: Request[Any, Any, Any], response_id: FromPath[str]
) -> dict[str, Any]:
    """The items of a request, a page at a time."""
    tenant = request.user.tenant
    run = _runs(request).find(tenant, response_id)
    if run is not None:
        items = run.wanted.items
    else:
        items = msgspec.json.decode(_store(request).get(tenant, response_id).input)
    return page(request, items[::-1], _ITEMS_PER_PAGE)


def _store(request: Request[Any, Any, Any]) -> ResponseStore:
    store: ResponseStore = request.app.state.openai_responses
    return store


def _runs(request: Request[Any, Any, Any]) -> BackgroundRuns:
    runs: BackgroundRuns = request.app.state.openai_background
    return runs


def _starting_after(request: Request[Any, Any, Any]) -> int:
    given = request.query_params.get("starting_after")
    if given is None:
        return -1
    if not given.isdecimal() or len(given) > 9:
        raise InvalidRequestError(
            "starting_after is the sequence number of an event", param="starting_after"
        )
    return int(given)


def _json(content: bytes, headers: dict[str, str] | None = None) -> Response[bytes]:
    return Response(content, media_type="application/json", headers=headers)


def _follow(run: BackgroundRun, after: int) -> Stream:
    return Stream(
        run.follow(after), media_type="text/event-stream", headers={"cache-control": "no-cache"}
    )


ROUTES = [
    create,
    count_input_tokens,
    retrieve,
    forget,
    cancel,
    list_input_items,
    responses_socket,
]
