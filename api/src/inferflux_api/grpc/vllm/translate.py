"""From requests to vLLM engines to ours."""

from __future__ import annotations

import json
from typing import Any, Final

from inferflux_api.generation import GenerationRequest
from inferflux_api.grpc.protos import vllm_pb2 as pb
from inferflux_core.engine.protocol import TextPrompt, TokenPrompt
from inferflux_core.engine.sampling_params import Constraint, SamplingParams
from inferflux_core.errors import InvalidRequestError

__all__ = ["generate_request", "token_prompt"]

_MAX_CHOICES: Final = 16
_SAME: Final = (
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "ignore_eos",
)
_IF_PRESENT: Final = ("temperature", "max_tokens", "seed", "prompt_logprobs")
# Of these, nought is no value: it says that none was set.
_IF_SET: Final = ("top_p", "repetition_penalty")


def generate_request(request: pb.GenerateRequest, model: str | None) -> GenerationRequest:
    """Translate a generation. Its token ids are asked for, whatever the request says of probabilities.

    Args:
        request: to an engine, which names no model.
        model: to ask.

    Raises:
        InvalidRequestError: it asks for what this server does not do.
    """
    wanted = request.sampling_params
    _refuse_what_is_not_here(request)
    n = wanted.n or 1
    if n > _MAX_CHOICES:
        raise InvalidRequestError(f"n must be at most {_MAX_CHOICES}, not {n}", param="n")
    return GenerationRequest(model=model, prompts=[_prompt(request)], params=_params(wanted), n=n)


def token_prompt(tokenized: pb.TokenizedInput) -> TokenPrompt:
    """A prompt as token ids."""
    return TokenPrompt(token_ids=list(tokenized.input_ids))


def _prompt(request: pb.GenerateRequest) -> TokenPrompt | TextPrompt:
    kind = request.WhichOneof("input")
    if kind is None:
        raise InvalidRequestError("there is neither tokenized nor text", param="input")
    return token_prompt(request.tokenized) if kind == "tokenized" else TextPrompt(text=request.text)


def _refuse_what_is_not_here(request: pb.GenerateRequest) -> None:
    wanted = request.sampling_params
    has = request.HasField
    media = has("mm_inputs") or has("media_refs") or bool(request.extra_mm_inputs)
    transfer = has("kv_transfer_params") or has("kv_transfer_params_json")
    refused: tuple[tuple[str, bool, str], ...] = (
        ("mm_inputs", media, "models here take text only"),
        ("kv_transfer_params", transfer, "KV state is not transferred between servers here"),
        ("data_parallel_rank", request.data_parallel_rank != 0, "there is one rank here, 0"),
        ("min_tokens", wanted.min_tokens > 0, "min_tokens does not exist here; use ignore_eos"),
        (
            "truncate_prompt_tokens",
            wanted.HasField("truncate_prompt_tokens"),
            "prompts are not truncated here; send a shorter one",
        ),
    )
    for param, is_asked_for, problem in refused:
        if is_asked_for:
            raise InvalidRequestError(problem, param=param)


def _params(wanted: pb.SamplingParams) -> SamplingParams:
    given: dict[str, Any] = {name: getattr(wanted, name) for name in _SAME}
    given |= {name: getattr(wanted, name) for name in _IF_PRESENT if wanted.HasField(name)}
    given |= {name: getattr(wanted, name) for name in _IF_SET if getattr(wanted, name)}
    return SamplingParams(
        **given,
        stop=list(wanted.stop),
        stop_token_ids=list(wanted.stop_token_ids),
        logit_bias=dict(wanted.logit_bias),
        logprobs=wanted.logprobs,  # Reports have the token ids, even if they tell of 0 alternatives.
        constraint=_constraint(wanted),
    )


def _constraint(wanted: pb.SamplingParams) -> Constraint | None:
    kind = wanted.WhichOneof("constraint")
    if kind is None or (kind == "json_object" and not wanted.json_object):
        return None
    if kind == "structural_tag":
        raise InvalidRequestError("structural_tag does not exist here; use grammar", param=kind)
    if kind == "json_object":
        return Constraint(kind="json_schema", value='{"type":"object"}', param=kind)
    if kind == "choice":
        return Constraint(kind=kind, value=json.dumps(list(wanted.choice.choices)), param=kind)
    return Constraint(kind=kind, value=getattr(wanted, kind), param=kind)
