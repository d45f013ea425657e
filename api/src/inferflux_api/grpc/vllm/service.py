"""`vllm.grpc.engine.VllmEngine`. A server with several models is asked for one in the metadata `model`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from importlib.metadata import version

from inferflux_api.engines import ServedModel
from inferflux_api.grpc.calls import Call, Methods
from inferflux_api.grpc.protos import vllm_pb2 as pb
from inferflux_api.grpc.vllm.rendering import GenerateRenderer
from inferflux_api.grpc.vllm.running import Running
from inferflux_api.grpc.vllm.translate import generate_request, token_prompt
from inferflux_api.pipeline import Generation
from inferflux_api.server import Server
from inferflux_api.vectors import normalised
from inferflux_core.engine.protocol import ModelInfo
from inferflux_core.errors import EngineUnavailableError, InvalidRequestError

__all__ = ["EngineService"]


class EngineService:
    """What a router asks of an engine: tokens for tokens, and how it is."""

    descriptor = pb.DESCRIPTOR.services_by_name["VllmEngine"]

    def __init__(self, server: Server) -> None:
        self._server = server
        self._running = Running()
        self._started = time.monotonic()
        self.methods: Methods = {
            "Generate": self.generate,
            "Embed": self.embed,
            "HealthCheck": self.check_health,
            "Abort": self.abort,
            "GetModelInfo": self.model_info,
            "GetServerInfo": self.server_info,
            "GetLoads": self.loads,
        }

    async def generate(
        self, request: pb.GenerateRequest, call: Call
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        """Tokens as they come if the request streams, and each choice when it ends."""
        wanted = generate_request(request, call.metadata("model"))
        if self._server.pipeline.guardrails.active:
            raise InvalidRequestError(
                "token ids are refused while guardrails are active; use xai_api.Chat, or HTTP"
            )
        with self._running.track(call.principal, request.request_id) as abortable:
            opening = self._server.pipeline.open(call.principal, wanted)
            generation = await abortable.wait(opening)
            if generation is None:
                for message in GenerateRenderer(request, None).aborted(None):
                    yield message
                return
            try:
                await call.announce(generation.headers)
                renderer = GenerateRenderer(request, await _first_token_id(generation))
                async for delta in abortable.deltas(generation):
                    for message in renderer.delta(delta, generation):
                        yield message
                for message in renderer.aborted(generation):
                    yield message
            finally:
                await generation.close()

    async def embed(self, request: pb.EmbedRequest, call: Call) -> pb.EmbedResponse:
        """A vector of length 1 for one sequence of tokens."""
        result = await self._server.operations.embed(
            call.principal, call.metadata("model"), [token_prompt(request.tokenized)]
        )
        vector = normalised(result.answer, None)[0]
        return pb.EmbedResponse(
            embedding=vector.tolist(),
            embedding_dim=len(vector),
            prompt_tokens=result.answer.num_tokens,
        )

    async def check_health(
        self, request: pb.HealthCheckRequest, call: Call
    ) -> pb.HealthCheckResponse:
        """Whether every model that is to be in memory can be used."""
        del request, call
        healthy = self._server.ready
        return pb.HealthCheckResponse(healthy=healthy, message="ready" if healthy else "not ready")

    async def abort(self, request: pb.AbortRequest, call: Call) -> pb.AbortResponse:
        """End generations of this caller; they finish with the reason `abort`."""
        self._running.abort(call.principal, request.request_ids)
        return pb.AbortResponse()

    async def model_info(
        self, request: pb.GetModelInfoRequest, call: Call
    ) -> pb.GetModelInfoResponse:
        """What the model can do. Where its files lie is nobody's business: the path is its name."""
        del request
        model, info = self._loaded(call)
        return pb.GetModelInfoResponse(
            model_path=model.name,
            served_model_name=model.name,
            is_generation=info.generates,
            max_context_length=info.max_model_len,
            max_req_input_len=info.max_model_len - 1,
            vocab_size=info.vocab_size,
        )

    async def server_info(
        self, request: pb.GetServerInfoRequest, call: Call
    ) -> pb.GetServerInfoResponse:
        """How the engine is run."""
        del request
        model, info = self._loaded(call)
        stats = model.engine.stats
        return pb.GetServerInfoResponse(
            active_requests=stats.num_running + stats.num_waiting,
            uptime_seconds=time.monotonic() - self._started,
            server_type="inferflux-grpc",
            data_parallel_size=1,
            max_num_seqs=info.max_num_seqs,
            # Prompts are tokens here, and nothing is known of whether they end within reasoning.
            constrained_decoding_start="first_token",
        )

    async def loads(self, request: pb.GetLoadsRequest, call: Call) -> pb.GetLoadsResponse:
        """How much the engine has to do."""
        del request
        model, info = self._loaded(call)
        stats = model.engine.stats
        load = pb.SchedulerLoad(
            num_running_reqs=stats.num_running,
            num_waiting_reqs=stats.num_waiting,
            num_total_reqs=stats.num_running + stats.num_waiting,
            token_usage=stats.kv_usage,
            cache_hit_rate=stats.prefix_hits / max(stats.prefix_queries, 1),
            max_running_requests=info.max_num_seqs,
        )
        return pb.GetLoadsResponse(
            timestamp=datetime.now(UTC).isoformat(),
            version=version("inferflux-api"),
            dp_rank_count=1,
            loads=[load],
        )

    def _loaded(self, call: Call) -> tuple[ServedModel, ModelInfo]:
        model = self._server.engines.seen_by(call.principal).get(call.metadata("model"))
        info = model.engine.loaded_info
        if info is None:
            raise EngineUnavailableError(
                f"model '{model.name}' was not loaded yet; ask it something"
            )
        return model, info


async def _first_token_id(generation: Generation) -> int | None:
    """Of the prompt, where probabilities of its tokens are told."""
    if generation.request.params.prompt_logprobs is None:
        return None
    return (await generation.token_ids(""))[0]
