"""The hooks a plugin may implement.

Hooks only *declare*: each returns specs and does no work. They run once, at start-up, for the plugins
that the configuration selects.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from inferflux_core.specs import AuthProviderSpec, BackendSpec, GuardrailSpec, SchedulerSpec

__all__ = ["PROJECT_NAME", "hookimpl", "hookspec"]

PROJECT_NAME = "inferflux"

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)


@hookspec
def inferflux_backends() -> Iterable[BackendSpec]:  # type: ignore[empty-body]
    """Declare the compute backends this plugin provides.

    Returns:
        One `BackendSpec` per backend; its name equals the entry point's name.

    Example:
        @hookimpl
        def inferflux_backends():
            yield BackendSpec(name="echo", summary="Repeats the prompt", probe=probe, factory=load)
    """


@hookspec
def inferflux_schedulers() -> Iterable[SchedulerSpec]:  # type: ignore[empty-body]
    """Declare the scheduling policies this plugin provides.

    Returns:
        One `SchedulerSpec` per policy.

    Example:
        @hookimpl
        def inferflux_schedulers():
            yield SchedulerSpec(name="lifo", summary="Newest first", factory=LIFOScheduler)
    """


@hookspec
def inferflux_guardrails() -> Iterable[GuardrailSpec]:  # type: ignore[empty-body]
    """Declare the guardrails this plugin provides.

    Returns:
        One `GuardrailSpec` per guardrail. Order of execution comes from the configuration.

    Example:
        @hookimpl
        def inferflux_guardrails():
            yield GuardrailSpec(name="haiku", summary="Haiku only", factory=Haiku)
    """


@hookspec
def inferflux_auth_providers() -> Iterable[AuthProviderSpec]:  # type: ignore[empty-body]
    """Declare the authentication providers this plugin provides.

    Returns:
        One `AuthProviderSpec` per provider. Order of trial comes from the configuration.

    Example:
        @hookimpl
        def inferflux_auth_providers():
            yield AuthProviderSpec(name="ldap", summary="LDAP bind", config_type=Ldap, factory=Bind)
    """
