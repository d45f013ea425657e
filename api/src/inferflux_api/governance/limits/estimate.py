"""How many tokens a request may use, before an engine has counted those of its prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from inferflux_api.generation import GenerationRequest
from inferflux_core.engine.protocol import (
    Call,
    ChatPrompt,
    Embed,
    InfillPrompt,
    Prompt,
    Rank,
    TextPrompt,
    TokenPrompt,
)

__all__ = ["Estimate", "call_estimate", "generation_estimate"]

_BYTES_PER_TOKEN: Final = 3
"""In UTF-8. English has about 4, code and most other languages 3: rather too many tokens than too few."""
_BYTES_PER_MESSAGE: Final = 24
"""For what a template writes around a message."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens to reserve.

    Attributes:
        tokens: of the prompts, and of the answers for which the request says how long they may get.
        open_answers: answers that may get as long as they want.
    """

    tokens: int
    open_answers: int = 0


def generation_estimate(request: GenerationRequest, max_model_len: int | None) -> Estimate:
    """What a generation may use at most, as far as its request tells.

    Args:
        request: with parameters that were validated.
        max_model_len: tokens a sequence can hold, if the model is loaded.
    """
    tokens = sum(map(_prompt_tokens, request.prompts))
    answers = request.candidates * len(request.prompts)
    longest = request.params.max_tokens
    if longest is None:
        return Estimate(tokens, answers)
    return Estimate(tokens + answers * min(longest, max_model_len or longest))


def call_estimate(call: Call) -> Estimate:
    """What an operation will use. Those that run no model use no tokens."""
    match call:
        case Embed(inputs=inputs):
            return Estimate(sum(map(_prompt_tokens, inputs)))
        case Rank(query=query, documents=documents):
            size = sum(map(_size, documents)) + len(documents) * _size(query)
            return Estimate(_tokens(size))
    return Estimate(0)


def _prompt_tokens(prompt: Prompt) -> int:
    match prompt:
        case TokenPrompt(token_ids=token_ids):
            return len(token_ids)
        case TextPrompt(text=text):
            return _tokens(_size(text))
        case InfillPrompt(prefix=prefix, suffix=suffix):
            return _tokens(_size(prefix) + _size(suffix))
        case ChatPrompt(messages=messages, tools=tools):
            return _tokens(_size(messages) + _size(tools) + len(messages) * _BYTES_PER_MESSAGE)


def _tokens(size: int) -> int:
    return size // _BYTES_PER_TOKEN + 1


def _size(value: Any) -> int:
    """Bytes of the text in a JSON-like structure."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, list):
        return sum(map(_size, value))
    if isinstance(value, dict):
        return sum(map(len, value)) + sum(map(_size, value.values()))
    return 1
