"""What a caller must be allowed to, for each RPC. One that is not here is not served."""

from __future__ import annotations

from typing import Final

from inferflux_api.governance.authentication import PUBLIC

__all__ = ["SCOPES"]

SCOPES: Final = {
    "/grpc.health.v1.Health/Check": PUBLIC,
    "/grpc.health.v1.Health/List": PUBLIC,
    "/grpc.health.v1.Health/Watch": PUBLIC,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": "read",
    "/vllm.grpc.engine.VllmEngine/Abort": "generate",
    "/vllm.grpc.engine.VllmEngine/Embed": "generate",
    "/vllm.grpc.engine.VllmEngine/Generate": "generate",
    "/vllm.grpc.engine.VllmEngine/GetLoads": "read",
    "/vllm.grpc.engine.VllmEngine/GetModelInfo": "read",
    "/vllm.grpc.engine.VllmEngine/GetServerInfo": "read",
    "/vllm.grpc.engine.VllmEngine/HealthCheck": PUBLIC,
    "/xai_api.Chat/GetCompletion": "generate",
    "/xai_api.Chat/GetCompletionChunk": "generate",
    "/xai_api.Embedder/Embed": "generate",
    "/xai_api.Models/GetEmbeddingModel": "read",
    "/xai_api.Models/GetLanguageModel": "read",
    "/xai_api.Models/ListEmbeddingModels": "read",
    "/xai_api.Models/ListImageGenerationModels": "read",
    "/xai_api.Models/ListLanguageModels": "read",
    "/xai_api.Tokenize/TokenizeText": "generate",
}
"""By path, `/package.Service/Method`."""
