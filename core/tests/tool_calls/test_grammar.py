"""Calls that are demanded: whatever the grammar lets a model write, the parser reads."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import numpy as np
import pytest

from inferflux_core.backends.byte_tokenizer import ByteTokenizer
from inferflux_core.engine.constraints.compiler import ConstraintCompiler
from inferflux_core.engine.constraints.state import ConstraintState
from inferflux_core.engine.sampling_params import Constraint
from inferflux_core.errors import InvalidRequestError
from inferflux_core.tool_calls.formats import FORMATS
from inferflux_core.tool_calls.parser import AnswerParser

FIND = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "maxLength": 8},
        "limit": {"type": "integer", "minimum": 0, "maximum": 99},
        "order": {"type": "string", "enum": ["up", "down"]},
    },
    "required": ["text", "order"],
    "additionalProperties": False,
}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
SCHEMAS: dict[str, dict[str, Any]] = {"find": FIND, "now": NOTHING}
TOOLS = [{"name": name, "parameters": schema} for name, schema in SCHEMAS.items()]
TEXT_ENDS = {"qwen-coder": b"\n</parameter>\n", "gemma": b"<escape>", "gemma4": b'<|"|>'}
ENDING = frozenset(map(ord, '"}]<>|\n'))


def started(tool_format: str, **wanted: Any) -> ConstraintState:
    compiler = ConstraintCompiler(ByteTokenizer(), FORMATS[tool_format])
    value = json.dumps({"tools": TOOLS, "parallel": False, **wanted})
    return compiler.start(Constraint(kind="tool_calls", value=value, param="tools"))


def drawn(state: ConstraintState, rng: random.Random, text_end: bytes) -> str:
    """An answer drawn blindly from what may come next; `text_end` ends strings that have no quotes."""
    tokenizer = ByteTokenizer()
    ends = tokenizer.end_of_generation_ids
    output = bytearray()
    while not state.finished:
        assert len(output) < 4000, "it does not end"
        row = np.zeros(tokenizer.vocab_size, np.float32)
        state.mask(row)
        choices = [int(i) for i in np.flatnonzero(row == 0)]
        assert choices, "a dead end"
        if any(token_id in ends for token_id in choices) and rng.random() < 0.5:
            break
        going_on = [i for i in choices if i not in ends]
        ending = [i for i in going_on if i in ENDING]
        chosen = rng.choice(ending if ending and rng.random() < 0.6 else going_on or choices)
        bare = len(choices) > 150 and text_end
        for token_id in text_end if bare and rng.random() < 0.3 else [chosen]:
            state.accept(token_id)
            output += tokenizer.piece(token_id)
    return output.decode(errors="replace")


def read(tool_format: str, text: str) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    parser = AnswerParser(SCHEMAS, FORMATS[tool_format])
    content, calls = "", dict[int, list[str]]()
    for parsed in (parser.feed(text), parser.finish()):
        content += parsed.content
        for delta in parsed.tool_calls:
            call = calls.setdefault(delta.index, ["", ""])
            call[0] += delta.name or ""
            call[1] += delta.arguments
    return content, [(name, json.loads(arguments)) for name, arguments in calls.values()]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("tool_format", sorted(FORMATS))
def test_what_may_be_written_is_read(tool_format: str, parallel: bool, seed: int) -> None:
    end = TEXT_ENDS.get(tool_format, b"")
    text = drawn(started(tool_format, parallel=parallel), random.Random(seed), end)
    content, calls = read(tool_format, text)

    assert content == "", text
    assert calls, text
    assert parallel or len(calls) == 1, text
    for name, arguments in calls:
        # These formats do not bound the length of strings, as they stand there without quotes.
        schema = json.loads(json.dumps(SCHEMAS[name]).replace('"maxLength": 8', '"minLength": 0'))
        jsonschema.validate(arguments, schema)


@pytest.mark.parametrize("tool_format", sorted(FORMATS))
def test_text_is_not_allowed_where_a_call_is_demanded(tool_format: str) -> None:
    state = started(tool_format)
    row = np.zeros(ByteTokenizer.vocab_size, np.float32)
    state.mask(row)
    assert np.flatnonzero(row == 0).size == 1
    assert not state.allows(ord("W"))


def test_an_answer_may_keep_to_a_schema_without_a_call() -> None:
    state = started("hermes", otherwise={"type": "object", "properties": {"a": {"const": 1}}})
    for byte in b'{"a": 1}':
        assert state.allows(byte)
        state.accept(byte)


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "string"},
        {"type": "object", "properties": {"a": 5}},
        {"type": "object", "properties": {"a": {"type": "nonsense"}}},
        {"type": "object", "properties": []},
    ],
)
@pytest.mark.parametrize("tool_format", sorted(FORMATS))
def test_schemas_that_are_none_are_refused(tool_format: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        started(tool_format, tools=[{"name": "find", "parameters": parameters}])
    assert caught.value.param == "tools"


@pytest.mark.parametrize("given", [[], ["a"], ["b"], ["a", "b"]])
@pytest.mark.parametrize("tool_format", ["gemma", "gemma4", "qwen-coder"])
def test_arguments_that_may_be_left_out(tool_format: str, given: list[str]) -> None:
    kinds = {"a": {"type": "integer"}, "b": {"type": "integer"}}
    tool = {"name": "now", "parameters": {"type": "object", "properties": kinds}}
    state = started(tool_format, tools=[tool])
    if tool_format == "qwen-coder":
        inside = "".join(f"<parameter={key}>\n7\n</parameter>\n" for key in given)
        text = f"<tool_call>\n<function=now>\n{inside}</function>\n</tool_call>"
    else:
        inside = ",".join(f"{key}:7" for key in given)
        kind = FORMATS[tool_format]
        text = f"{kind.opening}call:now{{{inside}}}{kind.closing}"
    for byte in text.encode():
        assert state.allows(byte), chr(byte)
        state.accept(byte)
    assert read(tool_format, text) == ("", [("now", dict.fromkeys(given, 7))])
