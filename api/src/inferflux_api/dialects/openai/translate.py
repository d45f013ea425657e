"""From OpenAI's requests to ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from inferflux_api.conversation import Conversation
from inferflux_api.dialects.openai.constraints import constraint_of
from inferflux_api.dialects.openai.messages import template_message
from inferflux_api.dialects.openai.schemas import (
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    SamplingFields,
)
from inferflux_api.dialects.openai.tools import tool_use
from inferflux_api.generation import GenerationRequest
from inferflux_core.engine.protocol import (
    AdapterUse,
    ChatPrompt,
    InfillPrompt,
    Prompt,
    TextPrompt,
    TokenPrompt,
)
from inferflux_core.engine.sampling_params import SamplingParams
from inferflux_core.errors import InvalidRequestError

__all__ = ["chat_prompt", "chat_request", "completion_request", "text_or_token_prompts"]

_MAX_PROMPTS: Final = 64


def chat_request(body: ChatRequest) -> GenerationRequest:
    """Translate a chat.

    Raises:
        InvalidRequestError: it asks for what this server does not do.
    """
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequestError("top_logprobs needs logprobs: true", param="top_logprobs")
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    max_tokens = body.max_completion_tokens
    if max_tokens is None:
        max_tokens = body.max_tokens
    return GenerationRequest.of_chat(
        body.model,
        _conversation(body),
        _params(body, max_tokens, logprobs),
        n=body.n or 1,
        priority=body.priority or 0,
        adapters=_adapters(body),
    )


def completion_request(body: CompletionRequest) -> GenerationRequest:
    """Translate a completion.

    Raises:
        InvalidRequestError: it asks for what this server does not do.
    """
    # OpenAI's own default for this endpoint.
    max_tokens = 16 if body.max_tokens is None else body.max_tokens
    params = _params(body, max_tokens, body.logprobs)
    if body.echo and (body.logprobs is not None or max_tokens == 0):
        # Only who wants to know about the prompt may generate nothing.
        params = msgspec.structs.replace(params, prompt_logprobs=body.logprobs or 0)
    return GenerationRequest(
        model=body.model,
        prompts=_completion_prompts(body),
        params=params,
        n=body.n or 1,
        best_of=_best_of(body),
        echo=bool(body.echo),
        priority=body.priority or 0,
        adapters=_adapters(body),
    )


def _completion_prompts(body: CompletionRequest) -> list[Prompt]:
    prompts = text_or_token_prompts(body.prompt, param="prompt", most=_MAX_PROMPTS)
    if not body.suffix:
        return [*prompts]
    if body.echo:
        raise InvalidRequestError("suffix and echo do not go together", param="echo")
    texts = [prompt.text for prompt in prompts if isinstance(prompt, TextPrompt)]
    if len(texts) < len(prompts):
        raise InvalidRequestError("suffix needs prompts that are text", param="prompt")
    return [InfillPrompt(prefix=text, suffix=body.suffix) for text in texts]


def _best_of(body: CompletionRequest) -> int | None:
    n = body.n or 1
    if body.best_of is None or body.best_of == n:
        return None
    if body.best_of < n:
        raise InvalidRequestError(
            f"best_of is {body.best_of} and must be at least n, which is {n}", param="best_of"
        )
    if body.stream:
        raise InvalidRequestError(
            "best_of cannot be streamed: the best is known at the end", param="best_of"
        )
    return body.best_of


def _adapters(body: SamplingFields) -> list[AdapterUse]:
    return [AdapterUse(name=use.name, scale=use.scale) for use in body.adapters or []]


def chat_prompt(messages: Sequence[ChatMessage], options: dict[str, Any] | None) -> ChatPrompt:
    """A conversation without tools, as its template expects it.

    Raises:
        InvalidRequestError: the options would set what the template gets from elsewhere.
    """
    templated = [template_message(message) for message in messages]
    return Conversation(messages=templated, options=options or {}).prompt()


def _conversation(body: ChatRequest) -> Conversation:
    effort = body.reasoning_effort
    return Conversation(
        messages=[template_message(message) for message in body.messages],
        tools=tool_use(body.tools, body.tool_choice, body.parallel_tool_calls),
        thinking=None if effort is None else effort != "none",
        effort=None if effort == "none" else effort,
        options=body.chat_template_kwargs or {},
    )


def text_or_token_prompts(
    given: str | list[Any], *, param: str, most: int
) -> list[TextPrompt | TokenPrompt]:
    """The four shapes OpenAI allows: text, texts, token ids, lists of token ids.

    Args:
        given: from the body.
        param: its name there.
        most: texts, or lists of token ids, that are allowed.

    Raises:
        InvalidRequestError: another shape, or too many.
    """
    if isinstance(given, str):
        return [TextPrompt(text=given)]
    if _are(given, int):
        return [TokenPrompt(token_ids=given)]
    if len(given) > most:
        raise InvalidRequestError(f"{param} takes at most {most} at a time", param=param)
    if _are(given, str):
        return [TextPrompt(text=text) for text in given]
    if given and all(isinstance(ids, list) and _are(ids, int) for ids in given):
        return [TokenPrompt(token_ids=ids) for ids in given]
    raise InvalidRequestError(
        f"{param} must be a string, a list of strings, a list of token ids, or a list of such lists",
        param=param,
    )


def _params(body: SamplingFields, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
    given: dict[str, Any] = {
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "min_p": body.min_p,
        "typical_p": body.typical_p,
        "repetition_penalty": body.repetition_penalty,
        "frequency_penalty": body.frequency_penalty,
        "presence_penalty": body.presence_penalty,
        "seed": body.seed,
        "stop_token_ids": body.stop_token_ids,
        "ignore_eos": body.ignore_eos,
    }
    # Some clients say "no limit" as -1, for tokens and for top_k.
    if given["top_k"] == -1:
        del given["top_k"]
    return SamplingParams(
        **{name: value for name, value in given.items() if value is not None},
        max_tokens=None if max_tokens == -1 else max_tokens,
        stop=[body.stop] if isinstance(body.stop, str) else body.stop or [],
        logit_bias=_bias(body.logit_bias),
        logprobs=logprobs,
        constraint=constraint_of(body),
    )


def _bias(bias: dict[str, float] | None) -> dict[int, float]:
    try:
        return {int(token): value for token, value in (bias or {}).items()}
    except ValueError as error:
        raise InvalidRequestError(
            "the keys of logit_bias must be token ids", param="logit_bias"
        ) from error


def _are(values: list[Any], kind: type) -> bool:
    # bool is an int to Python and not to JSON.
    return bool(values) and all(type(value) is kind for value in values)
