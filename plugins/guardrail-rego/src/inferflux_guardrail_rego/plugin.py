"""Registers the `rego` guardrail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import GuardrailSpec
from inferflux_guardrail_rego.config import RegoConfig

if TYPE_CHECKING:
    from inferflux_guardrail_rego.reviewer import RegoReviewer


def _open(config: RegoConfig) -> RegoReviewer:
    # The evaluator reserves 256 GB of addresses: only where the guardrail is used.
    from inferflux_guardrail_rego.reviewer import RegoReviewer

    return RegoReviewer(config)


@hookimpl
def inferflux_guardrails() -> Iterable[GuardrailSpec]:
    """Declare `rego`."""
    yield GuardrailSpec(
        name="rego",
        summary="Judges prompts and answers by policies in Rego, in process",
        config_type=RegoConfig,
        factory=_open,
    )
