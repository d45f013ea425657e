"""Constraints of answers that begin with reasoning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.constraints.state import ConstraintState

__all__ = ["AfterReasoning"]


class AfterReasoning:
    """Keeps to `ConstraintState`: leaves the reasoning alone, and constrains what comes after it.

    Args:
        constraint: of the answer proper.
        piece: bytes of a token.
        closing: what ends the reasoning.
    """

    def __init__(
        self, constraint: ConstraintState, piece: Callable[[int], bytes], closing: bytes
    ) -> None:
        self._constraint = constraint
        self._piece = piece
        self._closing = closing
        self._tail = b""
        self._reasons = True

    @property
    def finished(self) -> bool:
        """Whether the output is complete and nothing may follow."""
        return not self._reasons and self._constraint.finished

    def allows(self, token_id: int) -> bool:
        """Whether `mask` leaves this token."""
        return self._reasons or self._constraint.allows(token_id)

    def mask(self, logits: NDArray[np.float32]) -> None:
        """Set the logits `[vocab_size]` of tokens that may not come next to minus infinity, in place."""
        if not self._reasons:
            self._constraint.mask(logits)

    def accept(self, token_id: int) -> None:
        """Advance over a token.

        Raises:
            InvalidRequestError: the constraint cannot go on.
        """
        if not self._reasons:
            self._constraint.accept(token_id)
            return
        seen = self._tail + self._piece(token_id)
        self._reasons = self._closing not in seen
        self._tail = seen[-len(self._closing) :]

    def forced(self) -> list[int]:
        """The tokens that must come next."""
        return [] if self._reasons else self._constraint.forced()
