"""`xai_api.Embedder`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

from inferflux_api.grpc.calls import Call, Methods
from inferflux_api.grpc.protos import xai_pb2 as pb
from inferflux_api.server import Server
from inferflux_api.vectors import normalised
from inferflux_core.engine.protocol import TextPrompt
from inferflux_core.errors import InvalidRequestError

__all__ = ["EmbedderService"]

_MAX_INPUTS: Final = 2048
_FORMATS: Final = (pb.FORMAT_INVALID, pb.FORMAT_FLOAT, pb.FORMAT_BASE64)


class EmbedderService:
    """Embeds texts, as vectors of length 1."""

    descriptor = pb.DESCRIPTOR.services_by_name["Embedder"]

    def __init__(self, server: Server) -> None:
        self._server = server
        self.methods: Methods = {"Embed": self.embed}

    async def embed(self, request: pb.EmbedRequest, call: Call) -> pb.EmbedResponse:
        """One vector for each input."""
        texts = _texts(request.input)
        if request.encoding_format not in _FORMATS:
            raise InvalidRequestError(
                "encoding_format must be float or base64", param="encoding_format"
            )
        result = await self._server.operations.embed(call.principal, request.model or None, texts)
        found = []
        for vector in normalised(result.answer, None):
            if request.encoding_format == pb.FORMAT_BASE64:
                text = base64.b64encode(vector.astype("<f4").tobytes()).decode()
                found.append(pb.FeatureVector(base64_array=text))
            else:
                found.append(pb.FeatureVector(float_array=vector.tolist()))
        return pb.EmbedResponse(
            id=result.id,
            model=result.model,
            embeddings=[pb.Embedding(index=i, embeddings=[v]) for i, v in enumerate(found)],
            usage=pb.EmbeddingUsage(num_text_embeddings=len(texts)),
        )


def _texts(inputs: Sequence[pb.EmbedInput]) -> list[TextPrompt]:
    if not 1 <= len(inputs) <= _MAX_INPUTS:
        raise InvalidRequestError(
            f"input must have 1 to {_MAX_INPUTS} texts, not {len(inputs)}", param="input"
        )
    for given in inputs:
        if (kind := given.WhichOneof("input")) != "string":
            raise InvalidRequestError(
                f"inputs of kind {kind!r} are not supported by this model", param="input"
            )
    return [TextPrompt(text=given.string) for given in inputs]
