"""`${env:NAME}` and `${file:/path}`: secrets that stay out of the configuration file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from inferflux_core.config.problems import KeyPath, Problem

__all__ = ["resolve_references"]

_REFERENCE: Final = re.compile(r"\$\{(?:(?P<scheme>env|file):(?P<target>[^{}]+)\})?")
_MAX_BYTES: Final = 64 * 1024


def resolve_references(tree: Any, env: Mapping[str, str], at: KeyPath = ()) -> Any:
    """Copy a plain tree with the references in its strings replaced by what they name.

    What a reference yields is taken as it is: a reference in it stays text. A trailing line end of a
    file is dropped.

    Raises:
        Problem: `${` begins something else, or the variable or file is missing or empty.
    """
    if isinstance(tree, dict):
        return {key: resolve_references(value, env, (*at, key)) for key, value in tree.items()}
    if isinstance(tree, list):
        return [resolve_references(item, env, (*at, index)) for index, item in enumerate(tree)]
    if isinstance(tree, str):
        return _REFERENCE.sub(lambda match: _target(match, env, at), tree)
    return tree


def _target(match: re.Match[str], env: Mapping[str, str], at: KeyPath) -> str:
    target = match["target"]
    if target is None:
        # A mistyped reference must not become the secret itself.
        raise Problem(
            at, "`${` begins no known reference", hint="write ${env:NAME} or ${file:/path}"
        )
    if match["scheme"] == "env":
        value = env.get(target, "")
        source = f"environment variable {target}"
    else:
        value = _read(Path(target), at)
        source = f"file {target}"
    if not value:
        raise Problem(at, f"{source} is not set or empty")
    return value


def _read(path: Path, at: KeyPath) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise Problem(at, f"file {path} is larger than {_MAX_BYTES} bytes")
        return content.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise Problem(at, f"file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Problem(at, f"file {path} is not UTF-8 text") from None
    except ValueError:
        raise Problem(at, "the path of a file cannot hold a null byte") from None
