"""The texts of a prompt, wherever in it they stand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec

from inferflux_api.governance.arguments import checked_arguments
from inferflux_core.engine.protocol import (
    ChatPrompt,
    InfillPrompt,
    Prompt,
    TextPrompt,
    TokenPrompt,
)
from inferflux_core.errors import InvalidRequestError

__all__ = ["Check", "checked_prompt"]

_VOCABULARY: Final = frozenset(
    (
        *("role", "content", "name", "tool_calls", "tool_call_id", "id", "type", "function"),
        *("arguments", "description", "parameters", "strict", "reasoning_content"),
        *("enable_thinking", "reasoning_effort", "properties", "required", "items", "enum"),
        *("const", "default", "title", "format", "pattern", "additionalProperties", "anyOf"),
        *("allOf", "oneOf", "not", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
        *("multipleOf", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems"),
        *("prefixItems", "patternProperties", "$ref", "$defs", "definitions", "$schema", "$id"),
        "examples",
    )
)
"""Names of fields of messages, tools and JSON Schema."""

_KINDS: Final = (
    *("system", "developer", "user", "assistant", "tool", "function", "text"),
    *("object", "array", "string", "number", "integer", "boolean", "null"),
)
"""What a field `role` or `type` may say of a message, a tool or a JSON Schema."""

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


def _map_strings(value: Any, check: Check) -> Any:
    """Pass what a template may show of a JSON-like structure through a check.

    That is texts, numbers and names of fields, but not the words that templates and JSON Schema themselves
    are written in.
    """
    if isinstance(value, str):
        return check(value)
    if isinstance(value, list):
        return [_map_strings(item, check) for item in value]
    if isinstance(value, dict):
        mapped = {
            key if key in _VOCABULARY else check(key): _map_field(key, item, check)
            for key, item in value.items()
        }
        if len(mapped) < len(value):
            raise InvalidRequestError("two fields would have the same name once they are masked")
        return mapped
    if isinstance(value, int | float) and not isinstance(value, bool):
        spelled = str(value)
        seen = check(spelled)
        return value if seen == spelled else seen
    return value


def _map_field(key: str, value: Any, check: Check) -> Any:
    if key in ("role", "type") and value in _KINDS:
        return value
    if key == "arguments" and isinstance(value, str) and _is_json(value):
        return checked_arguments(value, check)
    return _map_strings(value, check)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
