"""`/v1/responses` over a WebSocket, as `client.responses.connect()` of the openai package speaks it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, Final

import msgspec
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect

from inferflux_api.dialects.openai.errors import error_body
from inferflux_api.dialects.openai.responses.answering import (
    draft_of,
    open_generation,
    renderer_of,
    understand,
)
from inferflux_api.dialects.openai.responses.events import Framing
from inferflux_api.dialects.openai.responses.handshake import refuse_over_http
from inferflux_api.dialects.openai.responses.lanes import ClientEvent, Lanes
from inferflux_api.dialects.openai.responses.store import ResponseStore
from inferflux_api.generation import GenerationRequest
from inferflux_api.http.body import decode_json
from inferflux_api.http.streaming import stream
from inferflux_api.server import Server
from inferflux_core.errors import InferFluxError, InvalidRequestError, PayloadTooLargeError

__all__ = ["responses_socket"]

logger = logging.getLogger("inferflux.http")

_MOST_REMEMBERED: Final = 64
_BYTES_REMEMBERED: Final = 16 * 1024 * 1024
_decoder = msgspec.json.Decoder(ClientEvent)


class Connection:
    """One client: its requests, and what was answered here even if it is not to be stored."""

    def __init__(self, socket: WebSocket[Any, Any, Any]) -> None:
        self._socket = socket
        self._server: Server = socket.app.state.server
        self._remembered = ResponseStore(_MOST_REMEMBERED, _BYTES_REMEMBERED)
        self._store: ResponseStore = socket.app.state.openai_responses
        self._lanes = Lanes(self._answer)

    async def serve(self) -> None:
        """Answer until the client leaves; what runs then ends."""
        try:
            async for frame in self._frames():
                await self._take(frame)
        finally:
            await self._lanes.close()

    async def _frames(self) -> AsyncIterator[bytes]:
        while True:
            try:
                message = await self._socket.receive_data(mode="text")
            except WebSocketDisconnect:
                return
            yield message.encode()

    async def _take(self, frame: bytes) -> None:
        """Put a request into its lane, or say why not."""
        lane = None
        try:
            event = self._decoded(frame)
            lane = event.stream_id
            if event.type == "response.steer":
                await self._send(_not_steered(event))
                return
            if event.type != "response.create":
                raise InvalidRequestError(
                    f"events of type {event.type!r} do not exist here; send response.create",
                    param="type",
                )
            if event.background:
                raise InvalidRequestError(
                    "background is for POST /v1/responses; leave it out here", param="background"
                )
            self._lanes.put(event, len(frame))
        except InferFluxError as error:
            await self._refuse(error, lane)

    def _decoded(self, frame: bytes) -> ClientEvent:
        limits = self._server.body_limits
        if len(frame) > limits["max_bytes"]:
            raise PayloadTooLargeError(
                f"an event has at most {limits['max_bytes']} bytes (`server.max_body_bytes`)"
            )
        return decode_json(frame, _decoder, limits["max_depth"])

    async def _answer(self, event: ClientEvent) -> None:
        try:
            await self._generate(event)
        except InferFluxError as error:
            await self._refuse(error, event.stream_id)
        except OSError:
            # That is how ASGI says that the client left; what reads from it notices by itself.
            return
        except Exception as error:
            logger.error("a request over a WebSocket failed", exc_info=error)
            failure = InferFluxError("the server failed on this request; it was logged")
            await self._refuse(failure, event.stream_id)

    async def _generate(self, event: ClientEvent) -> None:
        principal = self._socket.user
        wanted, request = understand(event, principal.tenant, [self._remembered, self._store])
        silent = event.generate is False
        if silent:
            request = _shortest(request)
        generation = await open_generation(self._server, principal, wanted, request)
        renderer = renderer_of(
            wanted,
            draft_of(wanted, generation),
            principal.tenant,
            [self._remembered] if event.store is False else [self._remembered, self._store],
            framing=_lines(event.stream_id),
            silent=silent,
        )
        async with aclosing(stream(self._server, generation, renderer)) as chunks:
            async for chunk in chunks:
                for line in chunk.splitlines():
                    await self._socket.send_data(line, mode="text")

    async def _refuse(self, error: InferFluxError, lane: str | None) -> None:
        self._server.count_error(error)
        event: dict[str, Any] = {"type": "error", "status": error.status}
        if lane is not None:
            event["stream_id"] = lane
        await self._send(event | msgspec.json.decode(error_body(error)))

    async def _send(self, event: dict[str, Any]) -> None:
        with suppress(OSError):
            await self._socket.send_data(msgspec.json.encode(event), mode="text")


def _shortest(request: GenerationRequest) -> GenerationRequest:
    """A request that leaves its prompt in the cache, and asks for as little else as there is."""
    return replace(request, params=msgspec.structs.replace(request.params, max_tokens=1))


def _not_steered(event: ClientEvent) -> dict[str, Any]:
    return {
        "type": "response.steer.failed",
        "sequence_number": 0,
        "error": {
            "type": "invalid_request_error",
            "code": "steering_not_supported",
            "message": "a response that runs cannot be steered here; send response.create after it",
        },
        "steer": {
            "input": event.input or "",
            "previous_response_id": event.previous_response_id or "",
        },
    }


def _lines(lane: str | None) -> Framing:
    """One event on each line; those of a named lane tell its name."""
    name = b"" if lane is None else b',"stream_id":' + msgspec.json.encode(lane)
    return Framing(named=False, closing=name + b"}\n")


@websocket("/v1/responses", opt={"scope": "generate"}, middleware=[refuse_over_http])
async def responses_socket(socket: WebSocket[Any, Any, Any]) -> None:
    """Answer as events come, until the client leaves."""
    await socket.accept()
    await Connection(socket).serve()
