"""Typed access to the metadata of a GGUF file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

from gguf.constants import GGUFValueType

from inferflux_core.errors import ModelLoadError
from inferflux_gguf.layout import Layout

__all__ = ["MAX_WIDTH", "Metadata"]

MAX_WIDTH: Final = 2**20
"""Heads, and elements of an embedding, beyond which a number is taken for damage."""


class Metadata:
    """Typed access to a file's metadata; a wrong type or range refuses the file."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self._file = path.name
        self._entries = layout.metadata
        self.architecture = self.text("general.architecture")
        if not self.architecture:
            raise self.error("it names no architecture ('general.architecture')")

    def keys_under(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`, without it."""
        return [key.removeprefix(prefix) for key in self._entries if key.startswith(prefix)]

    def error(
        self, problem: str, hint: str = "use another conversion of the model"
    ) -> ModelLoadError:
        """An error about this file, to raise."""
        return ModelLoadError(f"{self._file}: {problem}", hint=hint)

    def text(self, key: str) -> str:
        """A short string, or ""."""
        entry = self._entries.get(key)
        if entry is None:
            return ""
        if not isinstance(entry.content, bytes):
            raise self.error(f"{key!r} must be a short string")
        try:
            return entry.content.decode()
        except UnicodeDecodeError:
            raise self.error(f"{key!r} is not valid UTF-8") from None

    def has_text(self, key: str) -> bool:
        """Whether there is a string, of any length, that is not empty."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        if entry.type is not GGUFValueType.STRING or entry.count is not None:
            raise self.error(f"{key!r} must be a string")
        return entry.content != b""

    def integer(self, key: str, default: int | None, least: int, most: int) -> int:
        """An integer in a range; without a default it must be there."""
        entry = self._entries.get(key)
        if entry is None:
            if default is None:
                raise self.error(f"the metadata key {key!r} is missing")
            return default
        return self._checked(key, entry.content, least, most)

    def number(self, key: str, default: float | None) -> float:
        """A finite number; without a default it must be there."""
        entry = self._entries.get(key)
        if entry is None:
            if default is None:
                raise self.error(f"the metadata key {key!r} is missing")
            return default
        value = entry.content
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(f"{key!r} must be a finite number")
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Yes or no."""
        entry = self._entries.get(key)
        if entry is None:
            return default
        if entry.type is not GGUFValueType.BOOL or entry.count is not None:
            raise self.error(f"{key!r} must be a boolean")
        return bool(entry.content)

    def flags(self, key: str) -> list[bool]:
        """A short array of yes and no, empty if there is none under this key."""
        entry = self._entries.get(key)
        if entry is None or entry.count is None:
            return []
        if entry.type is not GGUFValueType.BOOL or not isinstance(entry.content, tuple):
            raise self.error(f"{key!r} must be a short array of booleans")
        return [bool(item) for item in entry.content]

    def per_layer(self, key: str, layers: int, default: tuple[int, ...]) -> tuple[int, ...]:
        """A number for each layer, which the file may give once for all."""
        entry = self._entries.get(key)
        if entry is None:
            return default
        if entry.count is None:
            return (self._checked(key, entry.content, 0, MAX_WIDTH),) * layers
        if entry.count != layers or not isinstance(entry.content, tuple):
            raise self.error(f"{key!r} has {entry.count} elements for {layers} layers")
        return tuple(self._checked(key, item, 0, MAX_WIDTH) for item in entry.content)

    def _checked(self, key: str, value: object, least: int, most: int) -> int:
        if type(value) is not int:
            raise self.error(f"{key!r} must be an integer")
        if not least <= value <= most:
            raise self.error(f"{key!r} is {value}, outside {least} to {most}")
        return value
