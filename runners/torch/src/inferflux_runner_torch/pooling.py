"""One vector for a text, from the states of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Pool", "Pooling"]

Pooling = Literal["mean", "cls", "last"]
"""The mean over all tokens, or the state of the first or of the last one."""


class Pool:
    """Vectors of texts, whose states may come in pieces.

    Args:
        pooling: how to pool.
        lengths: tokens of each text.
        width: elements of a state.
        device: of the states.
    """

    def __init__(
        self, pooling: Pooling, lengths: Sequence[int], width: int, device: torch.device
    ) -> None:
        self._pooling = pooling
        self._lengths = lengths
        self._vectors = torch.zeros(len(lengths), width, device=device)

    def add(self, text: int, position: int, states: Tensor) -> None:
        """Take in states.

        Args:
            text: number of the text.
            position: of the first of them.
            states: `[tokens, width]`; those of a text come in their order.
        """
        if self._pooling == "mean":
            self._vectors[text] += states.float().sum(dim=0) / self._lengths[text]
        elif self._pooling == "last":
            self._vectors[text] = states[-1]
        elif position == 0:
            self._vectors[text] = states[0]

    def vectors(self, *, normalised: bool) -> NDArray[np.float32]:
        """float32 `[texts, width]`, of length 1 if they are wanted so."""
        found = self._vectors
        if normalised:
            found = torch.nn.functional.normalize(found, dim=1)
        vectors: NDArray[np.float32] = found.cpu().numpy()
        return vectors
