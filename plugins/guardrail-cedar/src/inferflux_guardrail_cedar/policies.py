"""Policies, entities and the schema, read and checked when the server starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import cedarpy

from inferflux_core.errors import ConfigError
from inferflux_guardrail_cedar.config import CedarConfig

__all__ = ["Policies"]


@dataclass(frozen=True, slots=True)
class Policies:
    """Everything that a decision depends on, parsed."""

    policies: cedarpy.PolicySet
    entities: cedarpy.Entities
    schema: cedarpy.Schema | None

    @classmethod
    def read(cls, config: CedarConfig) -> Policies:
        """Read the files.

        Raises:
            ConfigError: one of them cannot be read or does not parse, or a policy contradicts the schema.
        """
        schema = None
        if config.schema is not None:
            text = _read(config.schema)
            try:
                schema = cedarpy.Schema.from_str(text)
            except ValueError as error:
                _refuse(config.schema, error)
        texts = []
        for file in config.policies:
            texts.append(_read(file))
            _check(file, texts[-1], schema)
        try:
            entities = cedarpy.Entities.from_json_str(
                _read(config.entities) if config.entities else "[]", schema
            )
        except ValueError as error:
            _refuse(config.entities or "entities", error)
        return cls(cedarpy.PolicySet.from_str("\n".join(texts)), entities, schema)


def _check(file: str, text: str, schema: cedarpy.Schema | None) -> None:
    try:
        parsed = cedarpy.PolicySet.from_str(text)
    except ValueError as error:
        _refuse(file, error)
    if parsed.templates():
        _refuse(file, "it has a template, and nothing here would fill its slots")
    if schema is not None and (errors := cedarpy.validate_policies(text, schema).errors):
        _refuse(file, f"it contradicts the schema: {errors[0]}")


def _read(file: str) -> str:
    try:
        return Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        _refuse(file, error)


def _refuse(file: str, problem: object) -> NoReturn:
    raise ConfigError(
        f"guardrails.options.cedar: {file}: {problem}",
        hint="Correct the file; `cedar check-parse` and `cedar validate` say more about it.",
    )
