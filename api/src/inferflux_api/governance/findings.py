"""What guardrails found and what became of it: counted, logged, and told to the client in a header."""

from __future__ import annotations

import logging
from typing import Final, Literal

from inferflux_api.observability.metrics import Metrics
from inferflux_core.guardrails import GuardrailContext

__all__ = ["HEADER", "Effect", "Findings", "OnFailure"]

logger = logging.getLogger("inferflux.guardrails")

Effect = Literal["block", "mask", "flag", "log"]
OnFailure = Literal["block", "allow"]

HEADER: Final = "x-inferflux-flagged"
"""Names the guardrails that flagged something before the headers were sent."""


class Findings:
    """What is found in one request, in one direction. Texts themselves are never noted.

    Args:
        metrics: of the server, if it has any.
        context: of the request.
        headers: for its response.
    """

    def __init__(
        self, metrics: Metrics | None, context: GuardrailContext, headers: dict[str, str]
    ) -> None:
        self._metrics = metrics
        self._context = context
        self._headers = headers

    def found(self, guardrail: str, effect: Effect, rule: str) -> None:
        """Note that a guardrail had an effect on a text."""
        self._count("guardrail_findings", guardrail, effect)
        context = self._context
        if effect in ("flag", "log"):
            logger.warning(
                "guardrail '%s' objects to the %s of request %s of tenant %s (%s); let through",
                guardrail,
                context.direction.value,
                context.request_id,
                context.tenant,
                rule,
            )
        if effect == "flag":
            names = {*filter(None, self._headers.get(HEADER, "").split(",")), guardrail}
            self._headers[HEADER] = ",".join(sorted(names))

    def failed(self, guardrail: str, on_failure: OnFailure, error: Exception) -> None:
        """Note that a guardrail failed."""
        self._count("guardrail_failures", guardrail, on_failure)
        consequence = "let through" if on_failure == "allow" else "not let through"
        logger.error(
            "guardrail '%s' failed; the text was %s", guardrail, consequence, exc_info=error
        )

    def _count(self, metric: str, guardrail: str, what: str) -> None:
        if self._metrics is not None:
            direction = self._context.direction.value
            getattr(self._metrics, metric).labels(guardrail, what, direction).inc()
