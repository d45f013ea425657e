"""`xai_api.Chat`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from inferflux_api.choices import gather
from inferflux_api.grpc.calls import Call, Methods
from inferflux_api.grpc.protos import xai_pb2 as pb
from inferflux_api.grpc.xai.rendering import ChatRenderer
from inferflux_api.grpc.xai.translate import chat_request
from inferflux_api.pipeline import Generation
from inferflux_api.server import Server

__all__ = ["ChatService"]


class ChatService:
    """Answers conversations, whole and streamed."""

    descriptor = pb.DESCRIPTOR.services_by_name["Chat"]

    def __init__(self, server: Server) -> None:
        self._server = server
        self.methods: Methods = {"GetCompletion": self.complete, "GetCompletionChunk": self.stream}

    async def complete(
        self, request: pb.GetCompletionsRequest, call: Call
    ) -> pb.GetChatCompletionResponse:
        """A whole answer."""
        async with self._opened(request, call) as generation:
            return ChatRenderer(generation).whole(await gather(generation))

    async def stream(
        self, request: pb.GetCompletionsRequest, call: Call
    ) -> AsyncGenerator[pb.GetChatCompletionChunk, None]:
        """An answer as it comes."""
        async with self._opened(request, call) as generation:
            renderer = ChatRenderer(generation)
            async for delta in generation.deltas():
                if (chunk := renderer.chunk(delta)) is not None:
                    yield chunk

    @asynccontextmanager
    async def _opened(
        self, request: pb.GetCompletionsRequest, call: Call
    ) -> AsyncGenerator[Generation, None]:
        wanted = chat_request(request, self._server.body_limits["max_depth"])
        generation = await self._server.pipeline.open(call.principal, wanted)
        try:
            await call.announce(generation.headers)
            yield generation
        finally:
            await generation.close()
