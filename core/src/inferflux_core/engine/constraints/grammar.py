"""From the constraints that clients send to grammars of llguidance."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llguidance import LLMatcher, LLParserLimits
from llguidance.gbnf_to_lark import any_to_lark

from inferflux_core.tool_calls.formats import GENERIC, ToolFormat
from inferflux_core.tool_calls.grammar import calls_grammar

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

__all__ = ["LIMITS", "to_grammar"]

LIMITS = LLParserLimits(
    # A state takes 1 to 2 kB, and every request has its own.
    max_lexer_states=50_000,
    # Objects need four for every property that may be left out.
    max_items_in_row=10_000,
    verbose_errors=False,
)

_FORMAT: JsonCompileOptions = {
    # One way to write each value, the one of Python's json.dumps: what lies between values is then
    # forced, and small models cannot lose themselves in white space.
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}


def to_grammar(kind: str, value: str, tool_format: ToolFormat = GENERIC) -> str:
    """Translate a constraint.

    Args:
        kind: as in `Constraint`.
        value: likewise.
        tool_format: how the model spells tool calls.

    Returns:
        A grammar for `LLMatcher`, which may still find fault with it.

    Raises:
        ValueError: it is malformed.
    """
    if kind == "json_schema":
        return _from_json_schema(value)
    if kind == "regex":
        return LLMatcher.grammar_from_regex(value)
    if kind == "choice":
        return LLMatcher.grammar_from_lark(_alternatives(value))
    if kind == "tool_calls":
        return LLMatcher.grammar_from_lark(
            calls_grammar(json.loads(value), tool_format, {**_FORMAT, "lenient": False})
        )
    assert kind == "grammar", kind
    try:
        return LLMatcher.grammar_from_lark(any_to_lark(value))
    except Exception as error:
        # The converter has no common type of error, and some are mere IndexErrors.
        raise ValueError(f"it is neither Lark nor GBNF: {error}") from error


def _from_json_schema(value: str) -> str:
    schema = _read(value)
    if schema is False:
        raise ValueError("Unsatisfiable schema: false")
    if schema is True:
        value = "{}"
    elif not isinstance(schema, dict):
        raise ValueError("a JSON Schema is an object")
    # Whatever cannot be enforced is refused, not ignored, whatever the schema says.
    return LLMatcher.grammar_from_json_schema(value, defaults=_FORMAT, overrides={"lenient": False})


def _alternatives(value: str) -> str:
    choices = _read(value)
    if not (isinstance(choices, list) and choices and all(isinstance(c, str) for c in choices)):
        raise ValueError("choices are a list of strings, at least one")
    # One lexeme for all: ten thousand choices of one each would take long.
    return "start: CHOICE\nCHOICE: " + " | ".join(map(json.dumps, choices))


def _read(value: str) -> object:
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from error
