"""The contract between the engine and whatever restricts the next token of a request."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["ConstraintState"]


class ConstraintState(Protocol):
    """How far one request's output has come in its constraint. Every token of the output passes `accept`."""

    @property
    def finished(self) -> bool:
        """Whether the output is complete and nothing may follow."""

    def allows(self, token_id: int) -> bool:
        """Whether `mask` leaves this token, for much less than a mask costs.

        May say no when in doubt, never yes.
        """

    def mask(self, logits: NDArray[np.float32]) -> None:
        """Set the logits `[vocab_size]` of tokens that may not come next to minus infinity, in place.

        Where the output may end here, the model's own end-of-generation tokens are allowed. Where
        tokens are forced, only the first of them is allowed.

        Never raises: when the constraint cannot go on, e.g. because a limit of its engine is hit, the
        logits stay as they are and `accept` raises.
        """

    def accept(self, token_id: int) -> None:
        """Advance over a token that was chosen under the mask, or that `forced` named.

        Raises:
            InvalidRequestError: the constraint cannot go on.
        """

    def forced(self) -> list[int]:
        """The tokens that must come next, whatever the logits say; often none. Does not advance."""
