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
    rules += calls.shared_rules()
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

    def shared_rules(self) -> list[str]:
        """The rule for text that nothing but its end bounds."""
        if self._format.body not in ("xml", "gemma"):
            return []
        return [f"text[suffix={_quote(self._end_of_text())}]: /(?s:.*)/"]

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
        properties, required = schema.get("properties"), schema.get("required")
        properties = {} if properties is None else properties
        required = [] if required is None else required
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise ValueError("properties are an object, and required ones a list")
        spelled = self._commas if self._format.body == "gemma" else self._elements
        given = [(key, self._value(kind)) for key, kind in properties.items()]
        return spelled(
            [pair for pair in given if pair[0] in required],
            [pair for pair in given if pair[0] not in required],
        )

    @staticmethod
    def _elements(required: list[tuple[str, str]], others: list[tuple[str, str]]) -> str:
        def element(key: str, value: str) -> str:
            head = f"<parameter={key}>\n"
            return f"{_quote(head)} {value}"

        terms = [element(*pair) for pair in required]
        return " ".join(terms + [f"({element(*pair)})?" for pair in others])

    @staticmethod
    def _commas(required: list[tuple[str, str]], others: list[tuple[str, str]]) -> str:
        def term(pair: tuple[str, str], comma: str = ",") -> str:
            return f"{_quote(f'{comma}{pair[0]}:')} {pair[1]}"

        def maybe(pairs: list[tuple[str, str]]) -> list[str]:
            return [f"({term(pair)})?" for pair in pairs]

        if required:
            first, *rest = required
            return " ".join([term(first, ""), *map(term, rest), *maybe(others)])
        # Whichever comes first has no comma before it.
        starts = [
            " ".join([term(pair, ""), *maybe(others[at + 1 :])]) for at, pair in enumerate(others)
        ]
        return f"({' | '.join(starts)})?" if starts else ""

    def _value(self, schema: object) -> str:
        """A value, with what ends it."""
        text = isinstance(schema, dict) and schema.get("type") == "string"
        quote, end = self._format.quote, self._end_of_text()
        after = end if quote else f"\n{end}"
        if not text:
            value = self.json({} if schema is True else schema)
            return value if quote else f"{value} {_quote(after)}"
        choices = schema.get("enum") if isinstance(schema, dict) else None
        if choices and not (isinstance(choices, list) and all(map(_is_text, choices))):
            raise ValueError("what a string may be is a list of strings")
        head = f"{_quote(quote)} " if quote else ""
        if not choices:
            return f"{head}text"
        chosen = " | ".join(_quote(choice) for choice in choices)
        return f"{head}({chosen}) {_quote(after)}"

    def _end_of_text(self) -> str:
        return self._format.quote or "</parameter>\n"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _quote(text: str) -> str:
    return json.dumps(text)
