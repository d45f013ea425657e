"""`xai_api.Tokenize`."""

from __future__ import annotations

from inferflux_api.grpc.calls import Call, Methods
from inferflux_api.grpc.protos import xai_pb2 as pb
from inferflux_api.server import Server
from inferflux_core.engine.protocol import TextPrompt

__all__ = ["TokenizeService"]


class TokenizeService:
    """Cuts texts into tokens."""

    descriptor = pb.DESCRIPTOR.services_by_name["Tokenize"]

    def __init__(self, server: Server) -> None:
        self._server = server
        self.methods: Methods = {"TokenizeText": self.tokenize}

    async def tokenize(
        self, request: pb.TokenizeTextRequest, call: Call
    ) -> pb.TokenizeTextResponse:
        """The tokens of a text, and no others."""
        result = await self._server.operations.tokenize(
            call.principal,
            request.model or None,
            TextPrompt(text=request.text, add_special=False),
        )
        answer = result.answer
        return pb.TokenizeTextResponse(
            model=result.model,
            tokens=[
                pb.Token(
                    token_id=token_id,
                    string_token=piece.decode("utf-8", "replace"),
                    token_bytes=piece,
                )
                for token_id, piece in zip(answer.token_ids, answer.pieces, strict=True)
            ],
        )
