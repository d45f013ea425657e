"""One request's way through its constraint, by llguidance."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from inferflux_core.errors import InvalidRequestError

__all__ = ["MatcherState"]

_MAX_FORCED: Final = 32


class MatcherState:
    """Keeps to `ConstraintState`.

    A run of forced tokens is computed once and then followed to its end: a long one would otherwise
    cost time in the square of its length. Its tokens are those that the model's own tokenizer makes of
    the text, whoever asks: a mask leaves only the first of them.

    Args:
        matcher: at its beginning, and for this request alone.
        vocab_size: number of token ids.
        param: the request field that the constraint came from.
    """

    def __init__(self, matcher: LLMatcher, vocab_size: int, param: str) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._param = param
        self._bits = np.empty((vocab_size + 31) // 32, np.int32)
        self._run: deque[int] | None = None

    @property
    def finished(self) -> bool:
        """Whether the output is complete and nothing may follow."""
        return self._matcher.is_stopped()

    def allows(self, token_id: int) -> bool:
        """Whether `mask` would leave this token."""
        if run := self._forced():
            return run[0] == token_id
        return self._matcher.validate_tokens([token_id]) == 1

    def mask(self, logits: NDArray[np.float32]) -> None:
        """Set the logits `[vocab_size]` of tokens that may not come next to minus infinity, in place."""
        if run := self._forced():
            kept = logits[run[0]]
            logits.fill(-np.inf)
            logits[run[0]] = kept
            return
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        if self._matcher.is_error():
            return
        np.invert(self._bits, out=self._bits)
        refused = np.unpackbits(
            self._bits.view(np.uint8), count=self._vocab_size, bitorder="little"
        )
        np.copyto(logits, np.float32(-np.inf), where=refused.view(np.bool_))

    def accept(self, token_id: int) -> None:
        """Advance over a token.

        Raises:
            InvalidRequestError: the constraint cannot go on.
        """
        if not self._matcher.consume_token(token_id):
            reason = " ".join(self._matcher.get_error().split())
            raise InvalidRequestError(f"the constraint cannot go on: {reason}", param=self._param)
        if self._run and self._run.popleft() == token_id and self._run:
            return
        self._run = None

    def forced(self) -> list[int]:
        """The tokens that must come next, at most 32 of them."""
        return list(islice(self._forced(), _MAX_FORCED))

    def _forced(self) -> deque[int]:
        if self._run is None:
            self._run = deque(self._matcher.compute_ff_tokens())
        return self._run
