"""Registers the `cedar` guardrail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import GuardrailSpec
from inferflux_guardrail_cedar.config import CedarConfig

if TYPE_CHECKING:
    from inferflux_guardrail_cedar.reviewer import CedarReviewer


def _open(config: CedarConfig) -> CedarReviewer:
    # The evaluator loads only where the guardrail is used.
    from inferflux_guardrail_cedar.reviewer import CedarReviewer

    return CedarReviewer(config)


@hookimpl
def inferflux_guardrails() -> Iterable[GuardrailSpec]:
    """Declare `cedar`."""
    yield GuardrailSpec(
        name="cedar",
        summary="Judges prompts and answers by policies in Cedar, in process",
        config_type=CedarConfig,
        factory=_open,
    )
