"""From OpenAI's requests to ours."""

from __future__ import annotations

from typing import Any, Final

from inferflux_api.dialects.openai.schemas import (
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    SamplingFields,
)
from inferflux_api.pipeline import GenerationRequest
from inferflux_core.engine.protocol import ChatPrompt, Prompt, TextPrompt, TokenPrompt
from inferflux_core.engine.sampling_params import SamplingParams
from inferflux_core.errors import InvalidRequestError

__all__ = ["chat_request", "completion_request"]

_MAX_PROMPTS: Final = 64
_RESERVED_OPTIONS: Final = frozenset({"messages", "tools", "bos_token", "eos_token"})


def chat_request(body: ChatRequest) -> GenerationRequest:
    """Translate a chat.

    Raises:
        InvalidRequestError: it asks for what this server does not do.
    """
    _refuse_unavailable(body)
    options = body.chat_template_kwargs or {}
    if reserved := _RESERVED_OPTIONS & options.keys():
        raise InvalidRequestError(
            f"chat_template_kwargs may not set {sorted(reserved)}", param="chat_template_kwargs"
        )
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    max_tokens = body.max_completion_tokens
    if max_tokens is None:
        max_tokens = body.max_tokens
    prompt = ChatPrompt(messages=[_message(m) for m in body.messages], options=options)
    return GenerationRequest(
        model=body.model,
        prompts=[prompt],
        params=_params(body, max_tokens, logprobs),
        n=body.n or 1,
    )


def completion_request(body: CompletionRequest) -> GenerationRequest:
    """Translate a completion.

    Raises:
        InvalidRequestError: it asks for what this server does not do.
    """
    for name, value in (("echo", body.echo), ("suffix", body.suffix)):
        if value:
            raise InvalidRequestError(f"{name} is not available in this version", param=name)
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise InvalidRequestError("best_of must equal n in this version", param="best_of")
    # OpenAI's own default for this endpoint.
    max_tokens = 16 if body.max_tokens is None else body.max_tokens
    return GenerationRequest(
        model=body.model,
        prompts=_prompts(body.prompt),
        params=_params(body, max_tokens, body.logprobs),
        n=body.n or 1,
    )


def _refuse_unavailable(body: ChatRequest) -> None:
    """Say no to what would otherwise be ignored in silence."""
    if body.tools and body.tool_choice != "none":
        raise InvalidRequestError("tools are not available in this version", param="tools")
    kind = (body.response_format or {}).get("type", "text")
    if kind != "text":
        raise InvalidRequestError(
            f"response_format {kind!r} is not available in this version", param="response_format"
        )
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequestError("top_logprobs needs logprobs: true", param="top_logprobs")


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
    )


def _bias(bias: dict[str, float] | None) -> dict[int, float]:
    try:
        return {int(token): value for token, value in (bias or {}).items()}
    except ValueError as error:
        raise InvalidRequestError(
            "the keys of logit_bias must be token ids", param="logit_bias"
        ) from error


def _message(message: ChatMessage) -> dict[str, Any]:
    """A message as chat templates expect it: plain text, and `system` for `developer`."""
    role = "system" if message.role == "developer" else message.role
    result: dict[str, Any] = {"role": role, "content": _text(message.content)}
    for name in ("name", "tool_calls", "tool_call_id"):
        if (value := getattr(message, name)) is not None:
            result[name] = value
    return result


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = []
    for part in content:
        kind, text = part.get("type"), part.get("text")
        if kind != "text" or not isinstance(text, str):
            raise InvalidRequestError(
                f"content parts of type {kind!r} are not supported by this model", param="messages"
            )
        parts.append(text)
    return "".join(parts)


def _prompts(prompt: str | list[Any]) -> list[Prompt]:
    """The four shapes OpenAI allows: text, texts, token ids, lists of token ids."""
    if isinstance(prompt, str):
        return [TextPrompt(text=prompt)]
    if _are(prompt, int):
        return [TokenPrompt(token_ids=prompt)]
    if len(prompt) > _MAX_PROMPTS:
        raise InvalidRequestError(f"at most {_MAX_PROMPTS} prompts at a time", param="prompt")
    if _are(prompt, str):
        return [TextPrompt(text=text) for text in prompt]
    if prompt and all(isinstance(ids, list) and _are(ids, int) for ids in prompt):
        return [TokenPrompt(token_ids=ids) for ids in prompt]
    raise InvalidRequestError(
        "prompt must be a string, a list of strings, a list of token ids, or a list of such lists",
        param="prompt",
    )


def _are(values: list[Any], kind: type) -> bool:
    # bool is an int to Python and not to JSON.
    return bool(values) and all(type(value) is kind for value in values)
