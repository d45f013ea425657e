# ruff: noqa: D102 - a test's name says what it shows
"""What the contracts of all kinds of plugin have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from inferflux_core.plugins import Kind, PluginManager
from inferflux_core.specs import PluginSpec

__all__ = ["PluginContract"]

_KIT = __name__.rpartition(".")[0]


class PluginContract:
    """Base of the contracts. A plugin's test class inherits the one of its kind.

    A subclass may add tests. It may not replace or remove one of the contract, unless it repeats the
    test marked `@pytest.mark.xfail(reason=...)`, so that every deviation is written down.

    Attributes:
        kind: kind of plugin; set by each contract.
        plugin_name: required: the name of the plugin in configuration.
    """

    kind: ClassVar[Kind[Any]]
    plugin_name: ClassVar[str]

    def spec(self) -> PluginSpec:
        """The spec, loaded by name as the server does it.

        Raises:
            PluginError: the plugin is missing, or what it declares is wrong.
        """
        loaded: PluginSpec = PluginManager().load(self.kind, self.plugin_name)
        return loaded

    def test_no_test_of_the_contract_is_replaced(self) -> None:
        replaced = sorted(set(_replaced(type(self))))
        assert not replaced, (
            f"{type(self).__name__} replaces {', '.join(replaced)}: mark each of them "
            "@pytest.mark.xfail(reason=...), or let the contract test it"
        )

    def test_it_is_found_by_name_and_its_spec_is_valid(self) -> None:
        spec = self.spec()
        assert spec.name == self.plugin_name
        assert spec.summary.strip(), "summary is what `plugins list` shows"
        assert "\n" not in spec.summary

    def test_options_that_do_not_exist_are_refused(self) -> None:
        settings = self.spec().config_type.__struct_config__
        assert settings.forbid_unknown_fields, "config_type needs forbid_unknown_fields=True"
        assert settings.frozen, "config_type needs frozen=True"


def _replaced(subclass: type) -> Iterator[str]:
    """Names of standard tests that are something else in `subclass`, without a reason."""
    for contract in subclass.__mro__:
        if not contract.__module__.startswith(_KIT):
            continue
        for name, standard in vars(contract).items():
            actual = getattr(subclass, name, None)
            if name.startswith("test") and actual is not standard and not _has_reason(actual):
                yield name


def _has_reason(test: object) -> bool:
    marks = getattr(test, "pytestmark", [])
    return any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)
