"""Embeddings as numbers."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.protocol import Embeddings
from inferflux_core.errors import InvalidRequestError

__all__ = ["Vectors", "as_computed", "normalised"]

Vectors: TypeAlias = NDArray[np.float32]


def as_computed(answer: Embeddings) -> Vectors:
    """Embeddings as the model gives them: float32, little-endian, `[inputs, size]`."""
    return np.frombuffer(answer.vectors, "<f4").reshape(-1, answer.size)


def normalised(answer: Embeddings, dimensions: int | None) -> Vectors:
    """Embeddings of length 1: float32, little-endian, `[inputs, dimensions]`.

    Raises:
        InvalidRequestError: the model has not so many dimensions.
    """
    if dimensions is not None and dimensions > answer.size:
        raise InvalidRequestError(
            f"dimensions is {dimensions} and the embeddings of this model have {answer.size}",
            param="dimensions",
        )
    vectors = as_computed(answer)[:, :dimensions]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return result
