from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from inferflux_api.dialects.openai.constraints import ConstraintFields, constraint_of
from inferflux_api.dialects.openai.schemas import ChatRequest, CompletionRequest
from inferflux_api.dialects.openai.translate import chat_request, completion_request
from inferflux_core.engine.sampling_params import Constraint
from inferflux_core.errors import InvalidRequestError

SCHEMA = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}}


def translate(**fields: Any) -> Constraint | None:
    return constraint_of(msgspec.convert(fields, ConstraintFields))


@pytest.mark.parametrize(
    ("fields", "kind", "value"),
    [
        ({"response_format": {"type": "json_object"}}, "json_schema", {"type": "object"}),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, "json_schema", SCHEMA),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
         "json_schema", SCHEMA),
        ({"response_format": {"type": "json_schema",
                              "json_schema": {"name": "n", "strict": False, "schema": SCHEMA}}},
         "json_schema", SCHEMA),
        ({"structured_outputs": {"json": SCHEMA}}, "json_schema", SCHEMA),
        ({"structured_outputs": {"json": json.dumps(SCHEMA)}}, "json_schema", SCHEMA),
        ({"structured_outputs": {"json_object": True}}, "json_schema", {"type": "object"}),
        ({"structured_outputs": {"regex": "a+"}}, "regex", "a+"),
        ({"structured_outputs": {"choice": ["a", "b"]}}, "choice", ["a", "b"]),
        ({"structured_outputs": {"grammar": "start: A"}}, "grammar", "start: A"),
        ({"guided_json": SCHEMA}, "json_schema", SCHEMA),
        ({"guided_regex": "a+"}, "regex", "a+"),
        ({"guided_choice": ["a", "b"]}, "choice", ["a", "b"]),
        ({"guided_grammar": "start: A"}, "grammar", "start: A"),
        ({"json_schema": SCHEMA}, "json_schema", SCHEMA),
        ({"grammar": "root ::= A"}, "grammar", "root ::= A"),
    ],
)  # fmt: skip
def test_every_name_for_it(fields: dict[str, Any], kind: str, value: object) -> None:
    constraint = translate(**fields)
    assert constraint is not None
    assert constraint.kind == kind
    assert constraint.param == next(iter(fields))
    text = constraint.value
    assert (json.loads(text) if kind in ("json_schema", "choice") else text) == value


def test_properties_keep_their_order() -> None:
    constraint = translate(guided_json=SCHEMA)
    assert constraint is not None
    assert list(json.loads(constraint.value)["properties"]) == ["b", "a"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response_format": None, "structured_outputs": None, "guided_json": None},
        {"response_format": {"type": "text"}, "grammar": ""},
        {"structured_outputs": {"json_object": False}},
    ],
)
def test_none_is_asked_for(fields: dict[str, Any]) -> None:
    assert translate(**fields) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": 5}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": "x"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        ({"structured_outputs": {"structural_tag": {}}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex"),
        ({"guided_json": {}, "guided_choice": ["a"]}, "guided_choice"),
    ],
)  # fmt: skip
def test_what_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        translate(**fields)
    assert caught.value.param == param


def test_both_endpoints_take_them() -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}], "guided_regex": "a"}
    assert chat_request(msgspec.convert(chat, ChatRequest)).params.constraint is not None
    text = {"prompt": "hi", "response_format": {"type": "json_object"}}
    assert (
        completion_request(msgspec.convert(text, CompletionRequest)).params.constraint is not None
    )
