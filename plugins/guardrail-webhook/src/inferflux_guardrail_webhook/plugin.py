"""Registers the `webhook` guardrail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import GuardrailSpec
from inferflux_guardrail_webhook.config import WebhookConfig

if TYPE_CHECKING:
    from inferflux_guardrail_webhook.reviewer import WebhookReviewer


def _open(config: WebhookConfig) -> WebhookReviewer:
    # The HTTP client loads only where the guardrail is used.
    from inferflux_guardrail_webhook.reviewer import WebhookReviewer

    return WebhookReviewer(config)


@hookimpl
def inferflux_guardrails() -> Iterable[GuardrailSpec]:
    """Declare `webhook`."""
    yield GuardrailSpec(
        name="webhook",
        summary="Asks an endpoint of yours or a moderation service about prompts and answers",
        config_type=WebhookConfig,
        factory=_open,
    )
