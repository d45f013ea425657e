"""What a spec must look like before anything relies on it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from inferflux_core.plugins.kinds import Kind
from inferflux_core.specs import PLUGIN_API_VERSION, BackendSpec, PluginSpec

__all__ = ["SpecDefect", "check_spec"]


class SpecDefect(Exception):  # noqa: N818 - becomes a PluginError once the provider is named
    """A plugin declares something wrong."""

    def __init__(self, text: str, *, hint: str | None = None) -> None:
        super().__init__(text)
        self.hint = hint


def check_spec(kind: Kind[Any], provider: str, own_names: Collection[str], spec: object) -> None:
    """Check one declared spec.

    Args:
        kind: the kind of the hook that declared it.
        provider: distribution and version, for messages.
        own_names: the entry points of this kind that the distribution has.
        spec: what the hook yielded.

    Raises:
        SpecDefect: it is no such spec, speaks another API version, or has a field of a wrong type.
    """
    if not isinstance(spec, kind.spec_type):
        raise SpecDefect(
            f"{kind.hook} must yield {kind.spec_type.__name__}, not {type(spec).__name__}"
        )
    _check_version(provider, spec)
    if wrong := [name for name, is_right in _fields(spec) if not is_right]:
        raise SpecDefect(f"{kind.spec_type.__name__}.{wrong[0]} has the wrong type")
    if spec.name not in own_names:
        raise SpecDefect(f"it declares '{spec.name}' but has no entry point of that name")


def _check_version(provider: str, spec: PluginSpec) -> None:
    if spec.api_version == PLUGIN_API_VERSION:
        return
    older = isinstance(spec.api_version, int) and spec.api_version < PLUGIN_API_VERSION
    behind = provider.split()[0] if older else "inferflux-core"
    raise SpecDefect(
        f"plugin {provider} was written for plugin API {spec.api_version}; "
        f"this inferflux-core speaks {PLUGIN_API_VERSION}",
        hint=f"pip install --upgrade {behind}",
    )


def _fields(spec: Any) -> list[tuple[str, bool]]:
    """The name of each field and whether its value has the right type."""
    config_type = spec.config_type
    fields = [
        ("name", isinstance(spec.name, str)),
        ("summary", isinstance(spec.summary, str)),
        ("config_type", isinstance(config_type, type) and issubclass(config_type, msgspec.Struct)),
        ("factory", callable(spec.factory)),
    ]
    if isinstance(spec, BackendSpec):
        fields += [
            ("probe", callable(spec.probe)),
            (
                "capabilities",
                isinstance(spec.capabilities, frozenset) and _all_text(spec.capabilities),
            ),
            (
                "environment",
                isinstance(spec.environment, Mapping)
                and _all_text((*spec.environment, *spec.environment.values())),
            ),
            ("crash_hint", isinstance(spec.crash_hint, str | None)),
            ("needs_model", isinstance(spec.needs_model, bool)),
        ]
    return fields


def _all_text(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)
