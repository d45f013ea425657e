"""Reading JSON of others, whose fields may hold anything."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from inferflux_cli.errors import CliError

__all__ = ["as_object", "as_objects", "as_text", "json_object"]


def as_object(value: object) -> dict[str, Any]:
    """Return an object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def as_objects(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list; none for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Return a text; an empty one for anything else."""
    return value if isinstance(value, str) else ""


def json_object(text: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CliError: `text` is something else.
    """
    with suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    raise CliError(
        "the server's answer is not a JSON object",
        hint="does the address belong to an InferFlux server?",
    )
