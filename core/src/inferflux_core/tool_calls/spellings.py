"""Calls that are read once they are complete: those not written as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["ReadCall", "read_gemma", "read_xml"]

ReadCall = Callable[[str, Mapping[str, dict[str, Any]]], tuple[str, str] | None]
"""From the text between the markers, and the schemas of the tools by name, to name and arguments."""

_FUNCTION: Final = re.compile(r"\s*<function=([^>\n]+)>(.*)</function>\s*", re.DOTALL)
_PARAMETER: Final = re.compile(r"<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_GEMMA_CALL: Final = re.compile(r"\s*call:([\w.-]+)(\{.*\})\s*", re.DOTALL)
_GEMMA_TOKEN: Final = re.compile(
    r'(?:<escape>|<\|"\|>)(.*?)(?:<escape>|<\|"\|>)|([{,]\s*)([A-Za-z_][\w.-]*)\s*:', re.DOTALL
)


def read_xml(text: str, schemas: Mapping[str, dict[str, Any]]) -> tuple[str, str] | None:
    """`<function=name><parameter=key>value</parameter>...</function>`, as Qwen3-Coder writes it."""
    if (found := _FUNCTION.fullmatch(text)) is None or found[1] not in schemas:
        return None
    properties = schemas[found[1]].get("properties") or {}
    arguments = {
        key: _typed(value, properties.get(key)) for key, value in _PARAMETER.findall(found[2])
    }
    return found[1], json.dumps(arguments, ensure_ascii=False)


def read_gemma(text: str, schemas: Mapping[str, dict[str, Any]]) -> tuple[str, str] | None:
    """`call:name{key:<escape>text<escape>,other:5}`, as FunctionGemma writes it; Gemma 4 quotes otherwise."""
    if (found := _GEMMA_CALL.fullmatch(text)) is None or found[1] not in schemas:
        return None

    def as_json(part: re.Match[str]) -> str:
        if part[3] is not None:
            return f"{part[2]}{json.dumps(part[3])}:"
        return json.dumps(part[1], ensure_ascii=False)

    try:
        arguments = json.loads(_GEMMA_TOKEN.sub(as_json, found[2]))
    except ValueError:
        return None
    return found[1], json.dumps(arguments, ensure_ascii=False)


def _typed(value: str, schema: object) -> object:
    """A value as its schema wants it: these calls write strings bare."""
    if isinstance(schema, dict) and schema.get("type") == "string":
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
