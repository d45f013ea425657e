"""The guardrail: looks for personal data in whole texts, in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from inferflux_core.guardrails import GuardrailContext
from inferflux_core.guardrails.reviewing import Judge, category
from inferflux_core.guardrails.verdict_cache import Verdict
from inferflux_core.guardrails.workers import Workers
from inferflux_guardrail_presidio.analyzer import Analyze, make_analyzer
from inferflux_guardrail_presidio.config import PresidioConfig

__all__ = ["PresidioReviewer"]


class PresidioReviewer:
    """Asks Presidio; see `inferflux_core.guardrails.Reviewer`.

    Args:
        config: what to look for.
        clock: seconds, monotonic.
        make: makes the analyzer.

    Raises:
        PluginError: Presidio is not installed.
        ConfigError: it cannot do what is configured.
    """

    def __init__(
        self,
        config: PresidioConfig,
        clock: Callable[[], float] = time.monotonic,
        make: Callable[[PresidioConfig], Analyze] = make_analyzer,
    ) -> None:
        analyze = make(config)
        # One thread: two would only take turns, and spaCy does not promise to be shared.
        self._workers: Workers[Analyze] = Workers(lambda: analyze, 1)
        self._judge = Judge("Presidio", config, clock)
        self.directions = config.directions
        self.piece = config.piece

    async def review(self, context: GuardrailContext, text: str) -> None:
        """Judge a text.

        Raises:
            Blocked: there is personal data in it.
            ReviewError: there is no verdict.
        """
        # Whose text it is makes no difference.
        question = text.encode("utf-8", "surrogatepass")
        await self._judge.review(context, question, partial(self._ask, text))

    async def close(self) -> None:
        """Let the thread go."""
        self._workers.close()

    async def _ask(self, text: str) -> Verdict:
        found = await self._workers.run(lambda analyze: analyze(text))
        return Verdict() if found is None else Verdict(blocked=category("presidio", found.lower()))
