"""Typed access to the JSON files of a model folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from inferflux_core.errors import ModelLoadError

__all__ = ["Fields", "parse_object", "read_bytes", "read_fields", "read_list", "read_text"]

_MAX_BYTES: Final = 1 << 28
"""The largest tokenizers take some 40 MiB."""
_COMPLETE: Final = "the whole folder is needed, as its authors published it"


class Fields:
    """A JSON object; a wrong type or range refuses the folder. `null` is the same as absent.

    Args:
        file: where it came from, for messages.
        content: the object.
    """

    def __init__(self, file: str, content: Mapping[str, Any]) -> None:
        self.file = file
        self.content = content

    def error(
        self, problem: str, hint: str = "see that the file is as the model's authors published it"
    ) -> ModelLoadError:
        """An error about this file, to raise."""
        return ModelLoadError(f"{self.file}: {problem}", hint=hint)

    def get(self, key: str) -> Any:
        """Whatever is there, or None."""
        return self.content.get(key)

    def integer(self, key: str, default: int | None, least: int, most: int) -> int:
        """An integer in a range; without a default it must be there."""
        value = self.content.get(key)
        value = default if value is None else value
        if value is None:
            raise self.error(f"{key!r} is missing")
        if type(value) is not int or not least <= value <= most:
            raise self.error(f"{key!r} must be an integer from {least} to {most}")
        return value

    def number(self, key: str, default: float | None) -> float:
        """A positive finite number; without a default it must be there."""
        value = self.content.get(key)
        value = default if value is None else value
        if value is None:
            raise self.error(f"{key!r} is missing")
        # As a float first: comparing an enormous integer with infinity would not refuse it.
        sound = type(value) in (int, float) and abs(value) < 1e30 and math.isfinite(value)
        if not sound or value <= 0:
            raise self.error(f"{key!r} must be a positive number")
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Yes or no."""
        value = self.content.get(key)
        if value is None:
            return default
        if type(value) is not bool:
            raise self.error(f"{key!r} must be true or false")
        return value

    def text(self, key: str) -> str:
        """A string, or ""."""
        value = self.content.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.error(f"{key!r} must be a string")
        return value

    def object(self, key: str) -> Fields:
        """An object, empty if it is not there."""
        value = self.content.get(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.error(f"{key!r} must be an object")
        return Fields(f"{self.file}, {key}", value)

    def array(self, key: str) -> list[Any]:
        """An array, empty if it is not there."""
        value = self.content.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(f"{key!r} must be an array")
        return value

    def objects(self, key: str) -> list[Fields]:
        """An array of objects, empty if it is not there."""
        items = self.array(key)
        if not all(isinstance(item, dict) for item in items):
            raise self.error(f"{key!r} must be an array of objects")
        return [Fields(f"{self.file}, {key}", item) for item in items]


def read_fields(path: Path, *, required: bool = False) -> Fields:
    """The object in a JSON file; empty if the file is not there and need not be.

    Raises:
        ModelLoadError: it is missing, too large, or no JSON object.
    """
    text = read_text(path)
    if text is None:
        if required:
            raise ModelLoadError(f"the folder has no {path.name}", hint=_COMPLETE)
        return Fields(path.name, {})
    return Fields(path.name, parse_object(path.name, text))


def read_list(path: Path) -> list[Fields]:
    """The objects in a JSON file that holds an array of them; empty if the file is not there.

    Raises:
        ModelLoadError: it is too large, or something else.
    """
    text = read_text(path)
    if text is None:
        return []
    items = _parse(path.name, text)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ModelLoadError(f"{path.name} is no JSON array of objects", hint=_COMPLETE)
    return [Fields(path.name, item) for item in items]


def read_text(path: Path) -> str | None:
    """A text file of the folder, or None if it is not there.

    Raises:
        ModelLoadError: it is too large, or no UTF-8.
    """
    data = read_bytes(path)
    if data is None:
        return None
    try:
        return data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ModelLoadError(f"{path.name} cannot be read: {error}", hint=_COMPLETE) from error


def read_bytes(path: Path) -> bytes | None:
    """A small file of the folder, or None if it is not there.

    Raises:
        ModelLoadError: it is too large, or cannot be read.
    """
    try:
        if not path.is_file():
            return None
        if path.stat().st_size > _MAX_BYTES:
            raise ModelLoadError(
                f"{path.name} has more than {_MAX_BYTES >> 20} MiB", hint="it must be another file"
            )
        return path.read_bytes()
    except OSError as error:
        raise ModelLoadError(f"{path.name} cannot be read: {error}", hint=_COMPLETE) from error


def parse_object(name: str, text: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ModelLoadError: it is something else, or says a thing twice.
    """
    value = _parse(name, text)
    if not isinstance(value, dict):
        raise ModelLoadError(f"{name} is no JSON object", hint=_COMPLETE)
    return value


def _parse(name: str, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ModelLoadError(f"{name} is no valid JSON: {reason}", hint=_COMPLETE) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        # Readers disagree on which one counts.
        raise ValueError("a key occurs twice in one object")
    return content
