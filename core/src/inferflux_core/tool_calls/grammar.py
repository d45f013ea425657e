"""Grammars of calls, for answers that must call a tool."""

from __future__ import annotations

import json
from typing import Any, Final

from inferflux_core.tool_calls.formats import ToolFormat

__all__ = ["MAX_CALLS", "calls_grammar"]

MAX_CALLS: Final = 8
"""Calls in one answer that a grammar allows: a small model might never stop."""


def calls_grammar(
    wanted: dict[str, Any], tool_format: ToolFormat, json_options: dict[str, Any]
) -> str:
    """A grammar in llguidance's Lark dialect.

    Args:
        wanted: `tools`: list of `{"name", "parameters"}`; `parallel`: whether several calls may be made;
            `otherwise`: a schema that the answer may also keep to, without any call.
        tool_format: how the model spells calls.
        json_options: how JSON is written, as `x-guidance` of a schema.

    Raises:
        ValueError: a schema is none.
    """
    tools = wanted["tools"]
    calls = _Calls(tool_format, json_options)
    rules = [rule for index, tool in enumerate(tools) for rule in calls.rules(index, tool)]
    one = " | ".join(f"call_{index}" for index in range(len(tools)))
    more = (
        f" ({_quote(tool_format.separator)} call){{0,{MAX_CALLS - 1}}}"
        if wanted["parallel"]
        else ""
    )
    if not tool_format.separator:
        more = more.replace('"" ', "")
    answer = calls.framed(f"call{more}")
    start = f"start: {answer}"
    if (otherwise := wanted.get("otherwise")) is not None:
        start += " | otherwise"
        rules.append(f"otherwise: {calls.json(otherwise)}")
    return "\n".join([start, f"call: {one}", *rules])


class _Calls:
    """The rules of single calls in one format."""

    def __init__(self, tool_format: ToolFormat, json_options: dict[str, Any]) -> None:
        self._format = tool_format
        self._options = json_options

    def json(self, schema: object) -> str:
        """A term for values that keep to a schema."""
        if not isinstance(schema, dict):
            raise ValueError("a JSON Schema is an object")
        return "%json " + json.dumps({**schema, "x-guidance": self._options})

    def framed(self, calls: str) -> str:
        """Calls with what stands around all of them."""
        if self._format.listed:
            return f'{_quote(self._format.opening + "[")} {calls} "]"'
        return calls

    def rules(self, index: int, tool: dict[str, Any]) -> list[str]:
        """The rules for calls of one tool."""
        name, schema = tool["name"], tool.get("parameters") or {"type": "object"}
        if schema.get("type", "object") != "object":
            raise ValueError(f"the parameters of '{name}' are not an object")
        head, tail = self._around(name)
        if self._format.body in ("xml", "gemma"):
            return [f"call_{index}: {_quote(head)} {self._spelled(schema)} {_quote(tail)}"]
        return [
            f"call_{index}: {_quote(head)} arguments_{index} {_quote(tail)}",
            f"arguments_{index}: {self.json(schema)}",
        ]

    def _around(self, name: str) -> tuple[str, str]:
        """What stands before and after a call's arguments."""
        fmt = self._format
        if fmt.body == "named":
            return f"{fmt.opening}{name}[ARGS]", ""
        if fmt.body == "gemma":
            return f"{fmt.opening}call:{name}{{", f"}}{fmt.closing}"
        if fmt.body == "xml":
            return f"{fmt.opening}\n<function={name}>\n", f"</function>\n{fmt.closing}"
        head = f'{{"name": {json.dumps(name)}, "{fmt.arguments_key}": '
        if not fmt.closing:
            return head, "}"
        return f"{fmt.opening}\n{head}", f"}}\n{fmt.closing}"

    def _spelled(self, schema: dict[str, Any]) -> str:
        """The required arguments, then the others, in the order of the schema."""
        properties, required = schema.get("properties") or {}, schema.get("required") or []
        gemma = self._format.body == "gemma"
        terms: list[str] = []
        for key, kind in sorted(properties.items(), key=lambda item: item[0] not in required):
            comma = "," if gemma and terms else ""
            value = self._value(kind)
            if gemma:
                term = f"{_quote(f'{comma}{key}:')} {value}"
            else:
                head, tail = f"<parameter={key}>\n", "\n</parameter>\n"
                term = f"{_quote(head)} {value} {_quote(tail)}"
            if key in required:
                terms.append(term)
            elif not gemma or terms:
                terms.append(f"({term})?")
        return " ".join(terms)

    def _value(self, schema: object) -> str:
        kind = schema.get("type") if isinstance(schema, dict) else None
        if kind == "string" and isinstance(schema, dict):
            choices = schema.get("enum")
            text = "(" + " | ".join(map(_quote, choices)) + ")" if choices else r"/[^<]*/"
            return f'"<escape>" {text} "<escape>"' if self._format.body == "gemma" else text
        return self.json(schema if isinstance(schema, dict) else {})


def _quote(text: str) -> str:
    return json.dumps(text)
