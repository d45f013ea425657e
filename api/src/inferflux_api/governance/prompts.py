"""The texts of a prompt, wherever in it they stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from inferflux_core.engine.protocol import (
    ChatPrompt,
    InfillPrompt,
    Prompt,
    TextPrompt,
    TokenPrompt,
)
from inferflux_core.errors import InvalidRequestError

__all__ = ["Check", "checked_prompt"]

Check = Callable[[str], str]
"""Returns a text as the model may see it, or raises."""


def checked_prompt(prompt: Prompt, check: Check) -> Prompt:
    """Pass every text of a prompt through the guardrails, whoever is said to have written it.

    Raises:
        InvalidRequestError: it has no text to check.
        GuardrailBlockedError: a guardrail refuses it.
        GuardrailError: a guardrail failed.
    """
    if isinstance(prompt, TextPrompt):
        return msgspec.structs.replace(prompt, text=check(prompt.text))
    if isinstance(prompt, InfillPrompt):
        return InfillPrompt(prefix=check(prompt.prefix), suffix=check(prompt.suffix))
    if isinstance(prompt, TokenPrompt):
        raise InvalidRequestError(
            "prompts of token ids are refused while guardrails are active; send text",
            param="prompt",
        )
    return ChatPrompt(
        messages=[_map_strings(message, check) for message in prompt.messages],
        tools=prompt.tools and [_map_strings(tool, check) for tool in prompt.tools],
        options=_map_strings(prompt.options, check),
        continue_last=prompt.continue_last,
    )


def _map_strings(value: Any, function: Check) -> Any:
    """Apply a function to every string value in a JSON-like structure; names of fields are not text."""
    if isinstance(value, str):
        return function(value)
    if isinstance(value, list):
        return [_map_strings(item, function) for item in value]
    if isinstance(value, dict):
        return {key: _map_strings(item, function) for key, item in value.items()}
    return value
