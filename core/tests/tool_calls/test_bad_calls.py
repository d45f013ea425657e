"""Tools and calls that make no sense cost an error message, or nothing at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferflux_core.backends.byte_tokenizer import ByteTokenizer
from inferflux_core.engine.constraints.compiler import ConstraintCompiler
from inferflux_core.engine.sampling_params import Constraint
from inferflux_core.errors import InvalidRequestError
from inferflux_core.tool_calls.formats import FORMATS
from inferflux_core.tool_calls.prompting import for_template

TOOLS = [{"type": "function", "function": {"name": "f"}}]
DEEP = "[" * 50_000 + "]" * 50_000


@pytest.mark.parametrize("tool_format", FORMATS)
@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": 5},
        {"properties": {"a": {"type": "string"}}, "required": 5},
        {"properties": {"a": {"type": "string", "enum": "x"}}},
        {"type": ["object"]},
    ],
)
def test_parameters_that_are_no_schema_are_refused(
    tool_format: str, parameters: dict[str, Any]
) -> None:
    wanted = {"tools": [{"name": "f", "parameters": parameters}], "parallel": False}
    compiler = ConstraintCompiler(ByteTokenizer(), FORMATS[tool_format])
    with pytest.raises(InvalidRequestError, match="set of tools"):
        compiler.start(Constraint(kind="tool_calls", value=json.dumps(wanted), param="tools"))


@pytest.mark.parametrize("tool_format", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("arguments", [DEEP, "[" * 50_000, "{", "5", ""])
@pytest.mark.parametrize("call_id", ["a", 5, ["x"], None])
def test_calls_that_no_model_wrote_get_to_the_template(
    tool_format: Any, arguments: str, call_id: object
) -> None:
    call = {
        "id": call_id,
        "type": "function",
        "function": {"name": "f", "arguments": arguments},
    }
    messages = [{"role": "assistant", "content": "", "tool_calls": [call]}]
    shown, _ = for_template(messages, TOOLS, tool_format)
    assert "f" in json.dumps(shown)
