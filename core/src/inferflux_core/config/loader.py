"""From a file, the environment and flags to a checked configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from inferflux_core.config.checks import check
from inferflux_core.config.conversion import convert
from inferflux_core.config.document import Document, parse
from inferflux_core.config.overrides import from_environment, from_flag
from inferflux_core.config.problems import KeyPath, Problem, format_path
from inferflux_core.config.references import resolve_references
from inferflux_core.config.schema import Config
from inferflux_core.config.tree import Layers
from inferflux_core.errors import ConfigError

__all__ = ["load_config"]

_MAX_BYTES: Final = 1024 * 1024

_Where = Callable[[KeyPath], str]


def load_config(path: Path | None, env: Mapping[str, str], overrides: Sequence[str]) -> Config:
    """Read the configuration: defaults, then the file, then the environment, then flags.

    Relative paths in it stay relative to the working directory.

    Args:
        path: a YAML file of at most 1 MiB, or None for no file.
        env: the environment.
        overrides: arguments of `-o`, such as `server.port=9000`.

    Raises:
        ConfigError: names the file and line, variable or flag, and the key. It repeats no secret.
    """
    layers = Layers()
    if path is not None:
        _add_file(layers, path)
    for override in (*from_environment(env), *map(from_flag, overrides)):
        layers.add(override.layer, _constant(override.label))
    try:
        # Types are checked while references are still unread: msgspec's messages quote some values.
        convert(layers.tree)
        config = convert(resolve_references(layers.tree, env))
        check(config)
    except Problem as problem:
        raise _located(problem, layers) from None
    return config


def _add_file(layers: Layers, path: Path) -> None:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{path}: larger than {_MAX_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text") from None
    document = parse(text, lambda line: f"{path}:{line}")
    if document.value is None:
        return
    if not isinstance(document.value, dict):
        raise ConfigError(f"{path}:1: must be a mapping of sections, such as `server:`")
    layers.add(document.value, _line_of(path, document))


def _line_of(path: Path, document: Document) -> _Where:
    return lambda at: f"{path}:{document.lines[at]}"


def _constant(label: str) -> _Where:
    return lambda _at: label


def _located(problem: Problem, layers: Layers) -> ConfigError:
    parts = (layers.origin(problem.path), format_path(problem.path), problem.text)
    return ConfigError(": ".join(part for part in parts if part), hint=problem.hint)
