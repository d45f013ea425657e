"""The typed door to all plugins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec

from inferflux_core.config.conversion import problem_of
from inferflux_core.config.problems import KeyPath, format_path
from inferflux_core.errors import ConfigError, PluginError
from inferflux_core.plugins.discovery import Provider, discover
from inferflux_core.plugins.kinds import (
    AUTH,
    BACKEND,
    GUARDRAIL,
    KINDS,
    SCHEDULER,
    Kind,
    SpecT,
)
from inferflux_core.plugins.loading import cause_of, install_hint, load_spec, repair_hint
from inferflux_core.specs import (
    AuthProviderSpec,
    BackendSpec,
    GuardrailSpec,
    PluginSpec,
    Probe,
    SchedulerSpec,
)

__all__ = ["PluginManager", "PluginReport"]


@dataclass(frozen=True, slots=True)
class PluginReport:
    """The state of one installed plugin.

    Attributes:
        kind: kind of plugin; empty if its distribution's metadata cannot be read.
        name: name in configuration; empty as above.
        distribution: who provides it.
        version: of the distribution; empty if it cannot be read.
        status: `installed` means that nothing asked for it, so nothing of it was imported.
        detail: what is wrong, if something is.
    """

    kind: str
    name: str
    distribution: str
    version: str
    status: Literal["installed", "loaded", "conflict", "broken"]
    detail: str = ""


class PluginManager:
    """Finds plugins by name and loads those that are asked for, each once.

    Args:
        strict: load every installed plugin now; any defect is fatal. For development and tests.
        trace: log each hook call and its result to the logger `inferflux.plugins`.

    Raises:
        PluginError: `strict` is set and an installed plugin is broken.
    """

    def __init__(self, strict: bool = False, trace: bool = False) -> None:
        self._trace = trace
        self._discovery = discover()
        self._specs: dict[tuple[str, str], PluginSpec] = {}
        self._failures: dict[tuple[str, str], str] = {}
        if strict:
            self._load_all()

    def backend(self, name: str) -> BackendSpec:
        """Load a backend. Raises `PluginError` if it is missing or broken."""
        return self.load(BACKEND, name)

    def scheduler(self, name: str) -> SchedulerSpec:
        """Load a scheduler. Raises `PluginError` if it is missing or broken."""
        return self.load(SCHEDULER, name)

    def guardrail(self, name: str) -> GuardrailSpec:
        """Load a guardrail. Raises `PluginError` if it is missing or broken."""
        return self.load(GUARDRAIL, name)

    def auth_provider(self, name: str) -> AuthProviderSpec:
        """Load an authentication provider. Raises `PluginError` if it is missing or broken."""
        return self.load(AUTH, name)

    def names(self, kind: Kind[Any]) -> tuple[str, ...]:
        """The installed names of one kind, sorted."""
        return self._discovery.names(kind.name)

    def load(self, kind: Kind[SpecT], name: str) -> SpecT:
        """Load the plugin of this kind and name; a second call returns the same spec.

        Raises:
            PluginError: it is not installed, two distributions provide it, or it is broken.
        """
        key = (kind.name, name)
        if key not in self._specs:
            provider = self._provider(kind, name)
            try:
                self._specs[key] = load_spec(
                    kind, provider, self._own_names(provider), trace=self._trace
                )
            except PluginError as error:
                self._failures[key] = error.message
                raise
        return cast("SpecT", self._specs[key])

    def probe(self, spec: BackendSpec) -> Probe:
        """Ask a backend whether it can run on this machine.

        Raises:
            PluginError: its probe fails, rather than answers.
        """
        cause: BaseException | None = None
        try:
            answer: object = spec.probe()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            answer = None
            cause = error
        if isinstance(answer, Probe):
            return answer
        provider = self._provider(BACKEND, spec.name)
        reason = cause_of(cause) if cause else f"it returned {type(answer).__name__}, not Probe"
        raise PluginError(
            f"backend plugin '{spec.name}' from {provider}: its probe failed: {reason}",
            hint=repair_hint(BACKEND.name, spec.name, provider.distribution),
        ) from cause

    def options(
        self, spec: GuardrailSpec | AuthProviderSpec | SchedulerSpec, raw: dict[str, Any]
    ) -> msgspec.Struct:
        """Validate the options of a plugin.

        Raises:
            ConfigError: names the option: `guardrails.options.pii.entities`.
        """
        try:
            return msgspec.convert(raw, spec.config_type)
        except msgspec.ValidationError as error:
            problem = problem_of(error, _options_path(spec), spec.config_type)
        raise ConfigError(f"{format_path(problem.path)}: {problem.text}", hint=problem.hint)

    def report(self) -> tuple[PluginReport, ...]:
        """The state of every installed plugin; imports nothing."""
        rows = [
            self._row(provider, providers)
            for providers in self._discovery.providers.values()
            for provider in providers
        ]
        rows += [
            PluginReport("", "", broken.distribution, "", "broken", broken.reason)
            for broken in self._discovery.unreadable
        ]
        return tuple(rows)

    def _load_all(self) -> None:
        if self._discovery.unreadable:
            broken = self._discovery.unreadable[0]
            raise PluginError(
                f"the metadata of {broken.distribution} cannot be read: {broken.reason}",
                hint=f"pip install --force-reinstall {broken.distribution}",
            )
        for kind in KINDS.values():
            for name in self.names(kind):
                self.load(kind, name)

    def _provider(self, kind: Kind[Any], name: str) -> Provider:
        providers = self._discovery.providers.get((kind.name, name), ())
        if not providers:
            available = ", ".join(self.names(kind)) or "none"
            raise PluginError(
                f"{kind.name} plugin '{name}' is not installed; installed: {available}",
                hint=install_hint(kind.name, name),
            )
        if len(providers) > 1:
            raise PluginError(
                f"{kind.name} plugin '{name}' is provided by {_join(providers)}",
                hint=f"pip uninstall {providers[-1].distribution}, or the other",
            )
        return providers[0]

    def _own_names(self, provider: Provider) -> frozenset[str]:
        return frozenset(
            other.name
            for others in self._discovery.providers.values()
            for other in others
            if (other.kind, other.distribution) == (provider.kind, provider.distribution)
        )

    def _row(self, provider: Provider, providers: tuple[Provider, ...]) -> PluginReport:
        key = (provider.kind, provider.name)
        status: Literal["installed", "loaded", "conflict", "broken"] = "installed"
        detail = ""
        if len(providers) > 1:
            status, detail = "conflict", f"provided by {_join(providers)}"
        elif key in self._specs:
            status = "loaded"
        elif key in self._failures:
            status, detail = "broken", self._failures[key]
        return PluginReport(
            provider.kind, provider.name, provider.distribution, provider.version, status, detail
        )


def _join(providers: tuple[Provider, ...]) -> str:
    return " and ".join(map(str, providers))


def _options_path(spec: GuardrailSpec | AuthProviderSpec | SchedulerSpec) -> KeyPath:
    if isinstance(spec, SchedulerSpec):
        return ("runtime", "scheduler_options")
    if isinstance(spec, GuardrailSpec):
        return ("guardrails", "options", spec.name)
    # `auth.oidc` is the one plugin that users know by a section of its own.
    return ("auth", "oidc") if spec.name == "oidc" else ("auth", "options", spec.name)
