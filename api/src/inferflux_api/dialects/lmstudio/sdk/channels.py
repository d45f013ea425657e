"""What the SDKs ask for and get many answers to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from inferflux_api.choices import ToolCall
from inferflux_api.conversation import Conversation
from inferflux_api.dialects.lmstudio.descriptions import (
    check_context_length,
    instance_info,
    is_ready,
    model_info,
)
from inferflux_api.dialects.lmstudio.errors import PresetNotFoundError
from inferflux_api.dialects.lmstudio.sdk.calls import Caller, text_field, wanted_target
from inferflux_api.dialects.lmstudio.sdk.config import PredictionConfig, load_context_length
from inferflux_api.dialects.lmstudio.sdk.history import plain_text, template_messages
from inferflux_api.dialects.lmstudio.stats import stop_reason, tokens_per_second
from inferflux_api.engines import Target
from inferflux_api.generation import Delta, GenerationRequest
from inferflux_api.pipeline import Generation
from inferflux_core.engine.protocol import TextPrompt
from inferflux_core.errors import InvalidRequestError

__all__ = ["CHANNELS", "Messages"]

Messages = AsyncGenerator[dict[str, Any], None]
Parameter = dict[str, Any]


class _Prediction:
    """One answer, fragment by fragment.

    Args:
        caller: who asks.
        parameter: `modelSpecifier`, `history`, `predictionConfigStack`.
        cancelled: set when the client wants no more of the answer; the task is cancelled then, too, but
            only where it waits in here.

    Raises:
        InvalidRequestError: it asks for what this server does not do.
        PresetNotFoundError: it asks for a preset.
        ModelNotFoundError: there is no such model.
    """

    def __init__(self, caller: Caller, parameter: Parameter, cancelled: asyncio.Event) -> None:
        self._cancelled = cancelled
        self._caller = caller
        target = wanted_target(caller, parameter.get("modelSpecifier"))
        self._target = target
        self._request = _request(target, parameter)
        self._call: ToolCall | None = None
        self._counted = 0

    async def messages(self) -> Messages:
        """What the client gets to see.

        Raises:
            InferFluxError: the request was refused, or failed.
        """
        yield {"type": "promptProcessingProgress", "progress": 0.0}
        generation: Generation | None = None
        ending: tuple[str, str | None] | None = None
        try:
            if not self._cancelled.is_set():
                async with _opened(self._caller, self._request) as generation:
                    yield {"type": "promptProcessingProgress", "progress": 1.0}
                    async for delta in generation.deltas():
                        if self._cancelled.is_set():
                            break
                        for message in self._delta(delta, generation.usage.completion_tokens):
                            yield message
                        if delta.finish_reason is not None:
                            ending = delta.finish_reason, delta.stop_sequence
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._cancelled.is_set() or task is None:
                raise
            # The client still wants to know how far the answer came.
            task.uncancel()
        yield self._success(_stats(generation, ending))

    def _delta(self, delta: Delta, num_tokens: int) -> list[dict[str, Any]]:
        count, self._counted = num_tokens - self._counted, num_tokens
        messages = []
        if delta.reasoning:
            messages.append(_fragment(delta.reasoning, count, "reasoning"))
            count = 0
        if delta.text:
            messages.append(_fragment(delta.text, count, "none"))
        for part in delta.tool_calls:
            if part.id is not None:
                messages += self._end_call()
                self._call = ToolCall()
                messages.append({"type": "toolCallGenerationStart", "toolCallId": part.id})
                messages.append({"type": "toolCallGenerationNameReceived", "name": part.name})
            assert self._call is not None
            self._call.add(part)
            if part.arguments:
                messages.append(
                    {
                        "type": "toolCallGenerationArgumentFragmentGenerated",
                        "content": part.arguments,
                    }
                )
        if delta.finish_reason is not None:
            messages += self._end_call()
        return messages

    def _end_call(self) -> list[dict[str, Any]]:
        """The call that is complete now, if there is one."""
        call, self._call = self._call, None
        if call is None:
            return []
        try:
            arguments = json.loads(call.arguments)
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            return [{"type": "toolCallGenerationFailed"}]
        request = {"type": "function", "id": call.id, "name": call.name, "arguments": arguments}
        return [{"type": "toolCallGenerationEnd", "toolCallRequest": request}]

    def _success(self, stats: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "success",
            "stats": stats,
            "modelInfo": instance_info(self._target),
            "loadModelConfig": {"fields": []},
            "predictionConfig": {"fields": []},
        }


@asynccontextmanager
async def _opened(caller: Caller, request: GenerationRequest) -> AsyncGenerator[Generation, None]:
    generation = await caller.server.pipeline.open(caller.principal, request)
    try:
        yield generation
    finally:
        await generation.close()


def _stats(generation: Generation | None, ending: tuple[str, str | None] | None) -> dict[str, Any]:
    """How it went; without an ending, it was cancelled, perhaps before there was a generation."""
    if generation is None:
        return {"stopReason": "userStopped", "predictedTokensCount": 0}
    usage = generation.usage
    return {
        "stopReason": stop_reason(generation, *ending) if ending else "userStopped",
        "tokensPerSecond": tokens_per_second(generation),
        "timeToFirstTokenSec": generation.first_token_seconds,
        "promptTokensCount": usage.prompt_tokens,
        "predictedTokensCount": usage.completion_tokens,
        "totalTokensCount": usage.prompt_tokens + usage.completion_tokens,
    }


def _request(target: Target, parameter: Parameter) -> GenerationRequest:
    if parameter.get("fuzzyPresetIdentifier") is not None:
        raise PresetNotFoundError("there are no presets here; send the settings themselves")
    config = PredictionConfig(parameter.get("predictionConfigStack"))
    history = parameter.get("history")
    params = config.params()
    if config.completes:
        prompt = TextPrompt(text=plain_text(history))
        return GenerationRequest(model=target.name, prompts=[prompt], params=params)
    messages = template_messages(history)
    if not messages:
        raise InvalidRequestError("the history is empty", param="history")
    conversation = Conversation(messages=messages, tools=config.tools())
    return GenerationRequest.of_chat(target.name, conversation, params)


def _fragment(text: str, count: int, kind: str) -> dict[str, Any]:
    fragment = {
        "content": text,
        "tokensCount": count,
        "containsDrafted": False,
        "reasoningType": kind,
        "isStructural": False,
    }
    return {"type": "fragment", "fragment": fragment}


async def _get_or_load(caller: Caller, parameter: Parameter, cancelled: asyncio.Event) -> Messages:
    """A model by name, loaded if need be, as any request for it would."""
    del cancelled
    name = parameter.get("identifier")
    query = {"type": "query", "query": {"identifier": name} if name else {}}
    target = wanted_target(caller, query)
    model = target.model
    if is_ready(model):
        yield {"type": "alreadyLoaded", "info": instance_info(target)}
        return
    wanted = load_context_length(parameter.get("loadConfigStack"))
    check_context_length(model, wanted)
    info = await asyncio.to_thread(model_info, model)
    yield {"type": "startLoading", "identifier": target.name, "info": info}
    async with caller.server.engines.lease(model):
        check_context_length(model, wanted)
        yield {"type": "loadProgress", "progress": 1.0}
    yield {"type": "loadSuccess", "info": instance_info(target)}


async def _load(caller: Caller, parameter: Parameter, cancelled: asyncio.Event) -> Messages:
    """A model by name, loaded now."""
    del cancelled
    model = caller.server.engines.get(text_field(parameter, "modelKey"))
    if parameter.get("identifier") not in (None, model.name):
        raise InvalidRequestError(
            f"there is one instance of each model here, and this one is called '{model.name}'",
            param="identifier",
        )
    wanted = load_context_length(parameter.get("loadConfigStack"))
    check_context_length(model, wanted)
    yield {"type": "resolved", "info": await asyncio.to_thread(model_info, model)}
    yield {"type": "progress", "progress": 0.0}
    await caller.server.engines.load(model)
    check_context_length(model, wanted)
    yield {"type": "success", "info": instance_info(Target(model.name, model, []))}


def _predict(caller: Caller, parameter: Parameter, cancelled: asyncio.Event) -> Messages:
    return _Prediction(caller, parameter, cancelled).messages()


Channel = Callable[[Caller, Parameter, asyncio.Event], Messages]
_MODEL_CHANNELS: Final[dict[str, tuple[str, Channel]]] = {
    "getOrLoad": ("generate", _get_or_load),
    "loadModel": ("models:write", _load),
}
CHANNELS: Final[dict[str, dict[str, tuple[str, Channel]]]] = {
    "llm": {**_MODEL_CHANNELS, "predict": ("generate", _predict)},
    "embedding": _MODEL_CHANNELS,
    "system": {},
    "files": {},
    "repository": {},
}
"""Scope and function of every channel, by namespace and name."""
