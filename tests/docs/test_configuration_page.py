"""docs/configuration.md lists every key with its default, every variable, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect

from inferflux_core.config.overrides import ENVIRONMENT
from inferflux_core.config.schema import Config

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def rows(columns: int) -> dict[str, list[str]]:
    """The tables with so many columns: first cell, in backticks, to the others."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells[1:] for cells in lines if len(cells) == columns}


def structs(kind: inspect.Type) -> Iterator[tuple[str, inspect.StructType]]:
    """A type's own section, or that of its entries, with what to write behind the key."""
    if isinstance(kind, inspect.StructType):
        yield "", kind
    if isinstance(kind, inspect.ListType) and isinstance(kind.item_type, inspect.StructType):
        yield "[]", kind.item_type


def default_of(field: inspect.Field) -> str:
    """A field's default as the page writes it."""
    if field.required:
        return "required"
    factory = field.default_factory
    value = field.default if factory is inspect.NODEFAULT else factory()
    return f"`{value}`" if isinstance(value, str) else f"`{msgspec.json.encode(value).decode()}`"


def keys(struct: inspect.StructType, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key below a section, and its default; sections themselves have none."""
    for field in struct.fields:
        path = f"{prefix}{field.encode_name}"
        if not isinstance(field.type, inspect.StructType):
            yield path, default_of(field)
        for suffix, section in structs(field.type):
            yield from keys(section, f"{path}{suffix}.")


SCHEMA = inspect.type_info(Config)
assert isinstance(SCHEMA, inspect.StructType)
KEYS = dict(keys(SCHEMA))


def test_the_schema_was_walked() -> None:
    assert {"policy_store", "server.port", "runtime.nvme_offload.path"} <= KEYS.keys()
    assert {"auth.api_keys", "auth.api_keys[].key", "models[].path"} <= KEYS.keys()


@pytest.mark.parametrize(("key", "default"), KEYS.items())
def test_a_key_is_documented_with_its_default(key: str, default: str) -> None:
    assert key in rows(4), f"docs/configuration.md has no row for `{key}`"
    assert rows(4)[key][1] == default


def test_no_other_keys_are_documented() -> None:
    assert rows(4).keys() - KEYS.keys() == set()


@pytest.mark.parametrize(("variable", "path"), ENVIRONMENT.items())
def test_a_variable_is_documented_with_the_key_it_sets(
    variable: str, path: tuple[str, ...]
) -> None:
    assert variable in rows(2), f"docs/configuration.md has no row for `{variable}`"
    assert rows(2)[variable][0].startswith(f"`{'.'.join(path)}`")


def test_every_variable_the_sources_name_is_documented() -> None:
    sources = [
        path for folder in ("core", "api", "cli") for path in (ROOT / folder).glob("src/**/*.py")
    ]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    named = set(re.findall(r"\b(?:INFERFLUX|INFERCTL)_[A-Z][A-Z_]*[A-Z]\b", text))
    assert "INFERCTL_API_KEY" in named
    assert {name for name in named if f"`{name}`" not in PAGE} == set()
