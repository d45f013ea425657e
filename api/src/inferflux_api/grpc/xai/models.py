"""`xai_api.Models`."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from inferflux_api.engines import ServedModel
from inferflux_api.grpc.calls import Call, Methods
from inferflux_api.grpc.protos import xai_pb2 as pb
from inferflux_api.server import Server
from inferflux_core.errors import ModelNotFoundError

__all__ = ["ModelsService"]


class ModelsService:
    """Lists what is served. What a model can do is known once it was loaded; until then, it generates."""

    descriptor = pb.DESCRIPTOR.services_by_name["Models"]

    def __init__(self, server: Server) -> None:
        self._server = server
        self.methods: Methods = {
            "ListLanguageModels": self.list_language_models,
            "ListEmbeddingModels": self.list_embedding_models,
            "ListImageGenerationModels": self.list_image_generation_models,
            "GetLanguageModel": self.get_language_model,
            "GetEmbeddingModel": self.get_embedding_model,
        }

    async def list_language_models(
        self, request: Empty, call: Call
    ) -> pb.ListLanguageModelsResponse:
        """Models that write, and their adapters."""
        del request
        found = [_language(name, model) for name, model in self._all(call) if _generates(model)]
        return pb.ListLanguageModelsResponse(models=found)

    async def list_embedding_models(
        self, request: Empty, call: Call
    ) -> pb.ListEmbeddingModelsResponse:
        """Models that embed."""
        del request
        models = self._server.engines.seen_by(call.principal)
        found = [_embedding(model) for model in models if _embeds(model)]
        return pb.ListEmbeddingModelsResponse(models=found)

    async def list_image_generation_models(
        self, request: Empty, call: Call
    ) -> pb.ListImageGenerationModelsResponse:
        """There are none."""
        del request, call
        return pb.ListImageGenerationModelsResponse()

    async def get_language_model(self, request: pb.GetModelRequest, call: Call) -> pb.LanguageModel:
        """One model, or one adapter."""
        target = self._server.engines.seen_by(call.principal).resolve(request.name or None)
        if not _generates(target.model):
            raise ModelNotFoundError(f"model '{target.name}' does not generate", param="name")
        return _language(target.name, target.model)

    async def get_embedding_model(
        self, request: pb.GetModelRequest, call: Call
    ) -> pb.EmbeddingModel:
        """One model."""
        model = self._server.engines.seen_by(call.principal).get(request.name or None)
        if not _embeds(model):
            raise ModelNotFoundError(f"model '{model.name}' does not embed", param="name")
        return _embedding(model)

    def _all(self, call: Call) -> Iterator[tuple[str, ServedModel]]:
        models = self._server.engines.seen_by(call.principal)
        return ((name, model) for model in models for name in models.names(model))


def _generates(model: ServedModel) -> bool:
    info = model.engine.loaded_info
    return info is None or info.generates


def _embeds(model: ServedModel) -> bool:
    info = model.engine.loaded_info
    return info is not None and info.embeds


def _language(name: str, model: ServedModel) -> pb.LanguageModel:
    info = model.engine.loaded_info
    return pb.LanguageModel(
        name=name,
        input_modalities=[pb.TEXT],
        output_modalities=[pb.TEXT],
        created=Timestamp(seconds=model.created),
        max_prompt_length=0 if info is None else info.max_model_len,
    )


def _embedding(model: ServedModel) -> pb.EmbeddingModel:
    return pb.EmbeddingModel(
        name=model.name,
        input_modalities=[pb.TEXT],
        output_modalities=[pb.EMBEDDING],
        created=Timestamp(seconds=model.created),
    )
