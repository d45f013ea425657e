"""Registers the `opa` guardrail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import GuardrailSpec
from inferflux_guardrail_opa.config import OPAConfig

if TYPE_CHECKING:
    from inferflux_guardrail_opa.reviewer import OPAReviewer


def _open(config: OPAConfig) -> OPAReviewer:
    # The HTTP client loads only where the guardrail is used.
    from inferflux_guardrail_opa.reviewer import OPAReviewer

    return OPAReviewer(config)


@hookimpl
def inferflux_guardrails() -> Iterable[GuardrailSpec]:
    """Declare `opa`."""
    yield GuardrailSpec(
        name="opa",
        summary="Asks an Open Policy Agent or an AuthZEN server about prompts and answers",
        config_type=OPAConfig,
        factory=_open,
    )
