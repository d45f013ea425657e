"""Registers the guardrails that ship with the core."""

from __future__ import annotations

from collections.abc import Iterable

from inferflux_core.guardrails.blocklist import Blocklist, BlocklistConfig
from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import GuardrailSpec


@hookimpl
def inferflux_guardrails() -> Iterable[GuardrailSpec]:
    """Declare `blocklist`."""
    yield GuardrailSpec(
        name="blocklist",
        summary="Stops text that contains a forbidden word",
        config_type=BlocklistConfig,
        factory=Blocklist,
    )
