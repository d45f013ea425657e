"""YAML text to a plain tree that remembers the line of every value.

The dialect is the core schema of YAML 1.2, so `no` is a string, `010` is ten, `12:30` is a string and
`1e3` is a number, and it is narrower still: keys are taken as text, and duplicate keys, anchors,
aliases, tags, several documents and numbers that are not finite are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import yaml

from inferflux_core.config.problems import KeyPath, format_path
from inferflux_core.errors import ConfigError

__all__ = ["Document", "parse"]

_MAX_DEPTH: Final = 32
_MAX_DIGITS: Final = 400
"""Longer than any float; far below the length at which `int` refuses or grows slow."""

_TAG: Final = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _FLOAT = (f"{_TAG}{name}" for name in ("null", "bool", "int", "float"))


class _Loader(yaml.CSafeLoader):
    """Composes nodes; what a plain scalar means is decided by the resolvers below."""

    # A fresh table: PyYAML's own is for YAML 1.1.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    (_NULL, r"(~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    (_BOOL, r"(true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    (_INT, r"([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z", list("-+0123456789")),
    (_FLOAT, r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern, re.ASCII), _first)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document.

    Attributes:
        value: the root value; None if the text is empty.
        lines: line, counted from 1, of every value below the root.
    """

    value: Any
    lines: dict[KeyPath, int]


def parse(text: str, where: Callable[[int], str]) -> Document:
    """Parse one document.

    Args:
        text: YAML.
        where: names the place of a line, for messages: `config/server.yaml:12`.

    Raises:
        ConfigError: the text is not in the dialect above. The message quotes no value.
    """
    try:
        _refuse_features(text, where)
        # Not the context manager form: the C parser has none. It holds no file.
        node = _Loader(text).get_single_node()
    except (yaml.YAMLError, UnicodeError) as error:
        raise _syntax_error(error, text, where) from None
    builder = _Builder(where)
    return Document(None if node is None else builder.build(node, ()), builder.lines)


def _refuse_features(text: str, where: Callable[[int], str]) -> None:
    """Scan the flat event stream: unlike composing, that cannot overflow the C stack."""
    depth = 0
    documents = 0
    for event in _events(text):
        line = event.start_mark.line + 1
        if getattr(event, "anchor", None) is not None:
            _refuse(
                where(line),
                "anchors and aliases are not supported",
                'put a value that begins with & or * in quotes: "&..."',
            )
        if getattr(event, "tag", None) is not None:
            _refuse(
                where(line),
                "tags are not supported",
                'put a value that begins with ! in quotes: "!..."',
            )
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if documents > 1:
            _refuse(where(line), "there is more than one document", "keep what follows no `---`")
        if depth > _MAX_DEPTH:
            _refuse(where(line), f"nested more than {_MAX_DEPTH} levels deep", None)


def _events(text: str) -> Iterator[Any]:
    yield from yaml.parse(text, Loader=_Loader)


def _refuse(place: str, text: str, hint: str | None) -> NoReturn:
    raise ConfigError(f"{place}: {text}", hint=hint)


def _syntax_error(
    error: yaml.YAMLError | UnicodeError, text: str, where: Callable[[int], str]
) -> ConfigError:
    # Only libyaml's own words are repeated: PyYAML's full message may quote the line.
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        return ConfigError(f"{where(line)}: not valid YAML: {error.problem or error.context}")
    position = getattr(error, "position", 0) or getattr(error, "start", 0)
    line = text.count("\n", 0, position) + 1
    return ConfigError(f"{where(line)}: not valid YAML: a character is not allowed")


class _Builder:
    """Turns nodes into values and notes their lines."""

    def __init__(self, where: Callable[[int], str]) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._where = where

    def build(self, node: Any, path: KeyPath) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _item(self, node: Any, path: KeyPath) -> Any:
        self.lines[path] = node.start_mark.line + 1
        return self.build(node, path)

    def _mapping(self, node: Any, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = self._where(key_node.start_mark.line + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{place}: a key must be a word")
            key = key_node.value
            child = (*path, key)
            if key in mapping:
                raise ConfigError(
                    f"{place}: {format_path(child)}: set twice, first in line {self.lines[child]}"
                )
            # The key's line, where a reader looks, even if a long value starts below it.
            self.lines[child] = key_node.start_mark.line + 1
            mapping[key] = self.build(value_node, child)
        return mapping

    def _scalar(self, node: Any, path: KeyPath) -> str | float | bool | None:
        text: str = node.value
        if node.tag == _NULL:
            return None
        if node.tag == _BOOL:
            return text.lower() == "true"
        if node.tag not in (_INT, _FLOAT):
            return text
        if len(text) <= _MAX_DIGITS:
            if node.tag == _INT:
                return int(text, 0 if text[:2] in ("0o", "0x") else 10)
            if math.isfinite(number := float(text)):
                return number
        place = self._where(node.start_mark.line + 1)
        raise ConfigError(f"{place}: {format_path(path)}: the number is too large")
