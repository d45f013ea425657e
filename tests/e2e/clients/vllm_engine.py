"""Tokens for tokens, as a router that holds the stubs of smg-grpc-proto asks for them."""

from __future__ import annotations

import json
import sys
import time

import grpc
from smg_grpc_proto.generated import vllm_engine_pb2 as pb
from smg_grpc_proto.generated.vllm_engine_pb2_grpc import VllmEngineStub
from xai_sdk import Client

address, key, model = sys.argv[1:]
engine = VllmEngineStub(grpc.insecure_channel(address))
bearer = {"metadata": (("authorization", f"Bearer {key}"),)}
tokenizer = Client(api_key=key, api_host=address, use_insecure_channel=True).tokenize
ids = [t.token_id for t in tokenizer.tokenize_text("The capital of France is", model)]


def request(request_id: str = "", stream: bool = True, **params) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        request_id=request_id,
        tokenized=pb.TokenizedInput(input_ids=ids),
        sampling_params=pb.SamplingParams(**{"temperature": 0, "max_tokens": 12, **params}),
        stream=stream,
    )


def generate(**params) -> list[pb.GenerateResponse]:
    return list(engine.Generate(request(**params), **bearer))


streamed = generate()
(whole,) = generate(stream=False)
told = generate(stream=False, logprobs=2, prompt_logprobs=1)[0].complete
forced = generate(stream=False, json_schema='{"type":"object","maxProperties":0}')[0].complete

long = engine.Generate(request("r1", max_tokens=900, ignore_eos=True), **bearer)
next(long)
engine.Abort(pb.AbortRequest(request_ids=["r1"]), **bearer)
aborted = list(long)[-1].complete

left = engine.Generate(request("r2", max_tokens=900, ignore_eos=True), **bearer)
next(left)
left.cancel()
deadline = time.monotonic() + 10
while engine.GetLoads(pb.GetLoadsRequest(), **bearer).loads[0].num_total_reqs:
    assert time.monotonic() < deadline, "it goes on although nobody reads it"
    time.sleep(0.05)
info = engine.GetModelInfo(pb.GetModelInfoRequest(), **bearer)

print(
    json.dumps(
        {
            "prompt": len(ids),
            "streamed": [t for m in streamed for t in m.chunk.token_ids],
            "complete": list(streamed[-1].complete.output_ids),
            "whole": list(whole.complete.output_ids),
            "counts": [whole.complete.prompt_tokens, whole.complete.completion_tokens],
            "finish_reason": whole.complete.finish_reason,
            "logprobs": list(told.output_logprobs.token_ids),
            "best": [top.token_ids[0] for top in told.output_logprobs.top_logprobs],
            "prompt_logprobs": list(told.input_logprobs.token_ids) == ids,
            "forced": forced.finish_reason,
            "aborted": aborted.finish_reason,
            "model": [info.served_model_name, info.max_context_length],
            "healthy": engine.HealthCheck(pb.HealthCheckRequest()).healthy,
        }
    )
)
