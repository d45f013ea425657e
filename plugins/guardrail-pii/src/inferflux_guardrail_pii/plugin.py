"""Registers the `pii` guardrail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import GuardrailSpec
from inferflux_guardrail_pii.config import PIIConfig

if TYPE_CHECKING:
    from inferflux_guardrail_pii.guardrail import PIIGuardrail


def _open(config: PIIConfig) -> PIIGuardrail:
    # The phone number tables load only where the guardrail is used.
    from inferflux_guardrail_pii.guardrail import PIIGuardrail

    return PIIGuardrail(config)


@hookimpl
def inferflux_guardrails() -> Iterable[GuardrailSpec]:
    """Declare `pii`."""
    yield GuardrailSpec(
        name="pii",
        summary="Masks or blocks e-mail addresses, phone, card and account numbers, IPs, SSNs",
        config_type=PIIConfig,
        factory=_open,
    )
