"""Log-probabilities as callers see them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.protocol import TokenReport
from inferflux_core.engine.request import Request
from inferflux_core.engine.runner import Tokenizer
from inferflux_core.engine.sampler import SampledToken, log_softmax, report

__all__ = ["Reporter"]


class Reporter:
    """Describes tokens of one model."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._piece = tokenizer.piece

    def describe(self, token: SampledToken) -> TokenReport:
        """A token with its alternatives."""
        return TokenReport(
            token_id=token.token_id,
            piece=self._piece(token.token_id),
            logprob=token.logprob or 0.0,
            alternatives=[(self._piece(a.token_id), a.logprob) for a in token.alternatives],
            alternative_ids=[a.token_id for a in token.alternatives],
        )

    def note_prompt(self, request: Request, position: int, logits: NDArray[np.float32]) -> None:
        """Report the token of a prompt at `position`, which `logits` `[vocab_size]` predict.

        A prompt that is computed again after a preemption is not reported again.
        """
        count = request.params.prompt_logprobs
        if count is not None and position == len(request.prompt_reports) + 1:
            token = report(request.token_ids[position], log_softmax(logits), count)
            request.prompt_reports.append(self.describe(token))
