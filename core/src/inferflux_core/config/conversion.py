"""A plain tree to the typed one, with errors that say which value is wrong and what would be right."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from inferflux_core.config.problems import KeyPath, Problem, did_you_mean
from inferflux_core.config.schema import Config

__all__ = ["convert", "known_names", "problem_of", "type_at"]

# msgspec's messages: "Expected `int`, got `str` - at `$.server.port`".
_PLACE: Final = re.compile(r" - at (?:`key` in )?`\$(?P<steps>[^`]*)`\Z")
# It does not name the key of a mapping: "$.guardrails.options[...]".
_STEP: Final = re.compile(r"\.(?P<key>[^.\[]+)|\[(?:(?P<index>\d+)|\.\.\.)\]")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<key>.*)`\Z", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(?P<key>.*)`\Z", re.DOTALL)


def convert(tree: Any) -> Config:
    """Check a plain tree against the schema.

    Raises:
        Problem: a key is unknown or missing, or a value has the wrong type.
    """
    try:
        return msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise problem_of(error, ()) from None


def problem_of(
    error: msgspec.ValidationError, base: KeyPath, struct: type[msgspec.Struct] = Config
) -> Problem:
    """Explain a failed conversion to `struct` of the value that sits at `base`."""
    message = str(error)
    place = _PLACE.search(message)
    text = message[: place.start()] if place else message
    path: KeyPath = tuple(
        int(step["index"]) if step["index"] else step["key"] or "*"
        for step in _STEP.finditer(place["steps"] if place else "")
    )
    if unknown := _UNKNOWN.fullmatch(text):
        names = known_names(path, struct)
        return Problem(
            (*base, *path, unknown["key"]),
            "unknown key",
            hint=did_you_mean(unknown["key"], names),
        )
    if missing := _MISSING.fullmatch(text):
        return Problem((*base, *path), f"`{missing['key']}` is required here")
    found = type_at(path, struct)
    hint = None
    if isinstance(found, inspect.LiteralType):
        hint = f"one of: {', '.join(map(str, found.values))}"
    return Problem((*base, *path), text[:1].lower() + text[1:], hint=hint)


def type_at(path: KeyPath, struct: type[msgspec.Struct] = Config) -> inspect.Type | None:
    """The schema's type of the value at `path`; None if the schema has no such value."""
    found: inspect.Type | None = _info(struct)
    for part in path:
        found = _child(_without_null(found), part)
    return _without_null(found)


def known_names(path: KeyPath, struct: type[msgspec.Struct] = Config) -> tuple[str, ...]:
    """The keys of the section at `path`."""
    found = type_at(path, struct)
    if isinstance(found, inspect.StructType):
        return tuple(field.encode_name for field in found.fields)
    return ()


@cache
def _info(struct: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(struct)


def _child(parent: inspect.Type | None, part: str | int) -> inspect.Type | None:
    match parent:
        case inspect.StructType(fields=fields):
            return next((field.type for field in fields if field.encode_name == part), None)
        case inspect.ListType(item_type=item):
            return item if isinstance(part, int) else None
        case inspect.DictType(value_type=value):
            return value
        case inspect.AnyType():
            return parent
    return None


def _without_null(found: inspect.Type | None) -> inspect.Type | None:
    """Of `T | None`, `T`."""
    if isinstance(found, inspect.UnionType):
        return next(kind for kind in found.types if not isinstance(kind, inspect.NoneType))
    return found
