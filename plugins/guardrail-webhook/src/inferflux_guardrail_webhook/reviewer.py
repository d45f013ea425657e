"""The guardrail: posts whole texts to an endpoint, and waits for the answer."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from typing import Final

import msgspec

from inferflux_core.errors import ConfigError
from inferflux_core.guardrails import GuardrailContext
from inferflux_core.guardrails.http import PolicyClient, check_endpoint
from inferflux_core.guardrails.reviewing import Judge
from inferflux_core.guardrails.verdict_cache import Verdict
from inferflux_guardrail_webhook.config import WebhookConfig
from inferflux_guardrail_webhook.formats import question, verdict

__all__ = ["SIGNATURE", "WebhookReviewer"]

SIGNATURE: Final = "x-inferflux-signature"
_OWN: Final = frozenset(
    {"accept", "accept-encoding", "authorization", "connection", "content-length", "content-type"}
    | {"host", "transfer-encoding", SIGNATURE}
)


class WebhookReviewer:
    """Asks an endpoint; see `inferflux_core.guardrails.Reviewer`.

    Args:
        config: whom to ask, and about what.
        clock: seconds, monotonic.

    Raises:
        ConfigError: the endpoint or a header is not acceptable, or an option belongs to the other format.
    """

    def __init__(self, config: WebhookConfig, clock: Callable[[], float] = time.monotonic) -> None:
        check_endpoint(
            "guardrails.options.webhook.endpoint", config.endpoint, clear=config.allow_http
        )
        if config.model is not None and config.format == "inferflux":
            raise ConfigError(
                "guardrails.options.webhook.model has no effect in this format",
                hint="Remove it, or set `format: openai-moderation`.",
            )
        self._config = config
        self._headers = _checked(config.headers)
        if config.api_key is not None:
            self._headers["authorization"] = f"Bearer {config.api_key}"
        self._client = PolicyClient(config.endpoint)
        self._judge = Judge("the webhook", config, clock)
        self.directions = config.directions
        self.piece = config.piece

    async def review(self, context: GuardrailContext, text: str) -> None:
        """Judge a text.

        Raises:
            Blocked: the endpoint does not allow it.
            ReviewError: there is no verdict.
        """
        asked = question(self._config, context, text)

        async def ask() -> Verdict:
            # Who asked first is no part of the question: the verdict may serve others.
            named = {"request_id": context.request_id} if self._config.format == "inferflux" else {}
            body = msgspec.json.encode({**asked, **named})
            return verdict(self._config, await self._client.post(body, self._signed(body)))

        await self._judge.review(context, msgspec.json.encode(asked), ask)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _signed(self, body: bytes) -> dict[str, str]:
        if self._config.secret is None:
            return self._headers
        digest = hmac.digest(self._config.secret.encode(), body, "sha256").hex()
        return {**self._headers, SIGNATURE: f"sha256={digest}"}


def _checked(headers: dict[str, str]) -> dict[str, str]:
    lowered = {name.lower(): value for name, value in headers.items()}
    if own := sorted(_OWN & lowered.keys()):
        raise ConfigError(
            f"guardrails.options.webhook.headers may not contain {own[0]}",
            hint="The server writes it; a bearer token belongs in `api_key`.",
        )
    return lowered
