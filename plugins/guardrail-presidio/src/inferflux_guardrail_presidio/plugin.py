"""Registers the `presidio` guardrail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import GuardrailSpec
from inferflux_guardrail_presidio.config import PresidioConfig

if TYPE_CHECKING:
    from inferflux_guardrail_presidio.reviewer import PresidioReviewer


def _open(config: PresidioConfig) -> PresidioReviewer:
    # Presidio and spaCy load only where the guardrail is used.
    from inferflux_guardrail_presidio.reviewer import PresidioReviewer

    return PresidioReviewer(config)


@hookimpl
def inferflux_guardrails() -> Iterable[GuardrailSpec]:
    """Declare `presidio`."""
    yield GuardrailSpec(
        name="presidio",
        summary="Blocks prompts and answers in which Presidio finds personal data",
        config_type=PresidioConfig,
        factory=_open,
    )
