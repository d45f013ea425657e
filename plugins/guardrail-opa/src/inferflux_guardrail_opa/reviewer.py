"""The guardrail: asks about whole texts, and waits for the answer."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from inferflux_core.guardrails import GuardrailContext
from inferflux_core.guardrails.http import PolicyClient, check_endpoint
from inferflux_core.guardrails.reviewing import Judge
from inferflux_core.guardrails.verdict_cache import Verdict
from inferflux_guardrail_opa.config import OPAConfig
from inferflux_guardrail_opa.decision import question, verdict

__all__ = ["OPAReviewer"]


class OPAReviewer:
    """Asks a policy server; see `inferflux_core.guardrails.Reviewer`.

    Args:
        config: whom to ask, and about what.
        clock: seconds, monotonic.

    Raises:
        ConfigError: the endpoint is not acceptable.
    """

    def __init__(self, config: OPAConfig, clock: Callable[[], float] = time.monotonic) -> None:
        check_endpoint("guardrails.opa_endpoint", config.endpoint)
        self._api = config.api
        self._client = PolicyClient(config.endpoint)
        self._judge = Judge("the policy server", config, clock)
        self.directions = config.directions
        self.piece = config.piece

    async def review(self, context: GuardrailContext, text: str) -> None:
        """Judge a text.

        Raises:
            Blocked: the policy does not allow it.
            ReviewError: there is no verdict.
        """
        body = msgspec.json.encode(question(self._api, context, text))

        async def ask() -> Verdict:
            return verdict(self._api, await self._client.post(body))

        await self._judge.review(context, body, ask)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
