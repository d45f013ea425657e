"""Layers of settings, merged into one tree that remembers where every value came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inferflux_core.config.problems import KeyPath, format_path
from inferflux_core.errors import ConfigError

__all__ = ["Layers"]


class Layers:
    """A tree of plain values; each layer added takes precedence over those before it.

    Mappings merge key by key; everything else, lists included, is replaced as a whole.
    """

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {}
        self._origins: dict[KeyPath, str] = {}

    def add(self, layer: dict[str, Any], where: Callable[[KeyPath], str]) -> None:
        """Merge a layer.

        Args:
            layer: settings.
            where: names the place of a path in this layer: a line, a variable or a flag.

        Raises:
            ConfigError: the layer has a section where an earlier one has a plain value.
        """
        self._merge(self.tree, layer, (), where)

    def origin(self, path: KeyPath) -> str | None:
        """Where the value at `path`, or the nearest one above it, was set."""
        for end in range(len(path), 0, -1):
            if (place := self._origins.get(path[:end])) is not None:
                return place
        return None

    def _merge(
        self,
        into: dict[str, Any],
        layer: dict[str, Any],
        at: KeyPath,
        where: Callable[[KeyPath], str],
    ) -> None:
        for key, value in layer.items():
            path = (*at, key)
            if not isinstance(value, dict):
                into[key] = value
                self._record(path, value, where)
                continue
            if into.get(key) is None:
                into[key] = {}
                self._origins[path] = where(path)
            section = into[key]
            if not isinstance(section, dict):
                raise ConfigError(
                    f"{where(path)}: {format_path(path)}: is not a section in {self.origin(path)}"
                )
            self._merge(section, value, path, where)

    def _record(self, path: KeyPath, value: Any, where: Callable[[KeyPath], str]) -> None:
        self._origins[path] = where(path)
        if isinstance(value, dict):
            for key, child in value.items():
                self._record((*path, key), child, where)
        if isinstance(value, list):
            for index, child in enumerate(value):
                self._record((*path, index), child, where)
