"""The many names under which clients say what an output has to look like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from inferflux_core.engine.sampling_params import Constraint
from inferflux_core.errors import InvalidRequestError

__all__ = ["ConstraintFields", "constraint_of"]

_OBJECT: Final = {"type": "object"}
_KINDS: Final = {
    "guided_json": "json_schema",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "json_schema": "json_schema",
    "grammar": "grammar",
}


class StructuredOutputs(msgspec.Struct, frozen=True):
    """vLLM's way to ask; one of these."""

    json: str | dict[str, Any] | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | dict[str, Any] | None = None


class ConstraintFields(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's field, vLLM's new one and its older ones, and those of llama-server."""

    response_format: dict[str, Any] | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: str | dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    json_schema: str | dict[str, Any] | None = None
    grammar: str | None = None


def constraint_of(fields: ConstraintFields) -> Constraint | None:
    """The constraint that a request asks for, if it does.

    Raises:
        InvalidRequestError: it asks for several, or for one that does not exist here.
    """
    found = list(_all(fields))
    if len(found) > 1:
        names = " and ".join(dict.fromkeys(constraint.param for constraint in found))
        raise InvalidRequestError(
            f"{names} ask for {len(found)} constraints; send one", param=found[-1].param
        )
    return found[0] if found else None


def _all(fields: ConstraintFields) -> Iterator[Constraint]:
    if fields.response_format is not None:
        yield from _response_format(fields.response_format)
    if fields.structured_outputs is not None:
        yield from _structured_outputs(fields.structured_outputs)
    for name, kind in _KINDS.items():
        value = getattr(fields, name)
        # Some clients send what they leave empty.
        if value is not None and value != "":
            yield _constraint(kind, value, name)


def _response_format(wanted: dict[str, Any]) -> Iterator[Constraint]:
    kind = wanted.get("type", "text")
    if kind == "json_object":
        yield _constraint("json_schema", wanted.get("schema") or _OBJECT, "response_format")
    elif kind == "json_schema":
        details = wanted.get("json_schema")
        schema = details.get("schema") if isinstance(details, dict) else None
        if not isinstance(schema, dict):
            raise InvalidRequestError(
                "response_format of type json_schema needs an object at json_schema.schema",
                param="response_format",
            )
        yield _constraint("json_schema", schema, "response_format")
    elif kind != "text":
        raise InvalidRequestError(
            f"response_format {kind!r} does not exist here; use text, json_object or json_schema",
            param="response_format",
        )


def _structured_outputs(wanted: StructuredOutputs) -> Iterator[Constraint]:
    param = "structured_outputs"
    if wanted.structural_tag is not None:
        raise InvalidRequestError(
            "structured_outputs.structural_tag does not exist here; use grammar", param=param
        )
    if wanted.json is not None:
        yield _constraint("json_schema", wanted.json, param)
    if wanted.regex is not None:
        yield _constraint("regex", wanted.regex, param)
    if wanted.choice is not None:
        yield _constraint("choice", wanted.choice, param)
    if wanted.grammar is not None:
        yield _constraint("grammar", wanted.grammar, param)
    if wanted.json_object:
        yield _constraint("json_schema", _OBJECT, param)


def _constraint(kind: Any, value: Any, param: str) -> Constraint:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return Constraint(kind=kind, value=text, param=param)
