"""The guardrail: evaluates policies about whole texts, in threads of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from inferflux_core.errors import ConfigError
from inferflux_core.guardrails import GuardrailContext
from inferflux_core.guardrails.reviewing import Judge, ReviewError, decision, facts
from inferflux_core.guardrails.verdict_cache import Verdict
from inferflux_core.guardrails.workers import Workers
from inferflux_guardrail_rego.config import RegoConfig
from inferflux_guardrail_rego.evaluator import UNDEFINED, Evaluator, Program

__all__ = ["RegoReviewer"]

_THREADS: Final = 2


class RegoReviewer:
    """Evaluates policies in Rego; see `inferflux_core.guardrails.Reviewer`.

    Args:
        config: which policies.
        clock: seconds, monotonic.

    Raises:
        ConfigError: the policies cannot be read, or not even be evaluated for a word.
    """

    def __init__(self, config: RegoConfig, clock: Callable[[], float] = time.monotonic) -> None:
        program = Program.read(config)
        _try(Evaluator(program), config)
        self._workers = Workers(partial(Evaluator, program), _THREADS)
        self._judge = Judge("the policy in Rego", config, clock)
        self.directions = config.directions
        self.piece = config.piece

    async def review(self, context: GuardrailContext, text: str) -> None:
        """Judge a text.

        Raises:
            Blocked: the policy does not allow it.
            ReviewError: there is no verdict.
        """
        document = facts(context, text)

        async def ask() -> Verdict:
            return await self._workers.run(lambda evaluator: _judged(evaluator, document))

        await self._judge.review(context, msgspec.json.encode(document), ask)

    async def close(self) -> None:
        """Let the threads go."""
        self._workers.close()


def _judged(evaluator: Evaluator, document: dict[str, str]) -> Verdict:
    result = evaluator.evaluate(document)
    return decision("rego", False if result is UNDEFINED else result)


def _try(evaluator: Evaluator, config: RegoConfig) -> None:
    for check in config.checks:
        document = {"direction": check, "tenant": "trial", "model": "trial", "text": "trial"}
        try:
            _judged(evaluator, document)
        except ReviewError as error:
            raise ConfigError(
                f"guardrails.options.rego: {config.query} cannot be evaluated: {error}",
                hint="It was asked about a text of one word. Every value of it has to be true, false or "
                "an object with `allow`, and every function has to know its arguments.",
            ) from None
