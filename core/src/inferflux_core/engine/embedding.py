"""Embedding and ranking beside generation: one pass at a time, between the engine's steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.preparation import RequestFactory
from inferflux_core.engine.protocol import (
    Answer,
    CallFailed,
    Embed,
    Embeddings,
    Rank,
    Scores,
    TextPrompt,
)
from inferflux_core.engine.runner import Embedder, ModelRunner
from inferflux_core.errors import EngineError, InferFluxError, InvalidRequestError

__all__ = ["EmbeddingDesk", "call_failed"]

MAX_INPUTS: Final = 2048
MAX_TOKENS: Final = 300_000
"""Both as OpenAI has them, for one request."""

_ROUND: Final = 16
"""Inputs of one call that are embedded before another call has its turn."""

Vectors = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class _Job:
    """A call with its inputs as tokens, and the vectors that are there already."""

    call: Embed | Rank
    inputs: list[list[int]]
    vectors: list[Vectors]
    passes: Iterator[bool]

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.inputs))

    @property
    def num_completed(self) -> int:
        return sum(map(len, self.vectors))


class EmbeddingDesk:
    """Takes calls in from any thread, and works on them in the one that executes the model.

    Args:
        runner: executes the model.
        factory: tokenizes.
    """

    def __init__(self, runner: ModelRunner, factory: RequestFactory) -> None:
        embeds = runner.capabilities.embeds and isinstance(runner, Embedder)
        self._embedder: Embedder | None = runner if embeds else None  # type: ignore[assignment]
        self._ranks = runner.capabilities.ranks
        self._factory = factory
        self._jobs: deque[_Job] = deque()

    @property
    def busy(self) -> bool:
        """Whether `advance` would do anything."""
        return bool(self._jobs)

    def add(self, call: Embed | Rank) -> None:
        """Tokenize a call and queue it; any thread.

        Raises:
            InvalidRequestError: the model cannot do what is asked, or an input is too long.
        """
        if self._embedder is None:
            raise InvalidRequestError("this model has no embeddings", param="model")
        inputs = self._embed_inputs(call) if isinstance(call, Embed) else self._rank_inputs(call)
        self._check(inputs, "input" if isinstance(call, Embed) else "documents")
        job = _Job(call, inputs, [], iter(()))
        job.passes = self._passes(job, self._embedder)
        self._jobs.append(job)

    def abort(self, call_id: int) -> None:
        """Give up a call; unknown ids are those that were just answered."""
        # A copy, as another thread may add to them.
        for job in list(self._jobs):
            if job.call.call_id == call_id:
                self._jobs.remove(job)

    def advance(self) -> Answer | None:
        """Compute one pass of one call; returns its answer if that was the last.

        Raises:
            RunnerError: the runner cannot go on.
        """
        job = self._jobs[0]
        try:
            between_rounds = next(job.passes)
        except InferFluxError as error:
            self._jobs.remove(job)
            return call_failed(job.call.call_id, error)
        if job.num_completed == len(job.inputs):
            self._jobs.remove(job)
            return self._answer(job)
        if between_rounds:
            # Whoever wants many embeddings lets others go ahead.
            self._jobs.rotate(-1)
        return None

    def _embed_inputs(self, call: Embed) -> list[list[int]]:
        if self._ranks:
            raise InvalidRequestError(
                "this model scores documents and has no embeddings; use /v1/rerank", param="model"
            )
        _check_count(len(call.inputs), "input")
        return [self._factory.token_ids(prompt) for prompt in call.inputs]

    def _rank_inputs(self, call: Rank) -> list[list[int]]:
        """Pairs; for a model that cannot score them, the query and then the documents."""
        _check_count(len(call.documents), "documents")
        if self._ranks and self._embedder is not None:
            return [self._embedder.pair(call.query, document) for document in call.documents]
        texts = [call.query, *call.documents]
        return [self._factory.token_ids(TextPrompt(text=text)) for text in texts]

    def _check(self, inputs: Sequence[Sequence[int]], param: str) -> None:
        assert self._embedder is not None
        limit = self._embedder.max_embedding_tokens
        for index, token_ids in enumerate(inputs):
            if not token_ids:
                raise InvalidRequestError(f"input {index} is empty", param=param)
            if len(token_ids) > limit:
                raise InvalidRequestError(
                    f"input {index} has {len(token_ids)} tokens and this model embeds at most "
                    f"{limit} at once; shorten or split it",
                    param=param,
                )
        if (total := sum(map(len, inputs))) > MAX_TOKENS:
            raise InvalidRequestError(
                f"the inputs have {total} tokens together and {MAX_TOKENS} are allowed; "
                "send several requests",
                param=param,
            )

    def _passes(self, job: _Job, embedder: Embedder) -> Generator[bool]:
        """Compute; yields after every pass whether another call may have its turn."""
        for start in range(0, len(job.inputs), _ROUND):
            batch = job.inputs[start : start + _ROUND]
            for vectors in embedder.embed(batch):
                job.vectors.append(vectors)
                yield job.num_completed == start + len(batch)

    def _answer(self, job: _Job) -> Answer:
        vectors, call = np.concatenate(job.vectors), job.call
        if not np.isfinite(vectors).all():
            error = EngineError("the model produced embeddings that are not numbers")
            return call_failed(call.call_id, error)
        if isinstance(call, Embed):
            return Embeddings(
                call_id=call.call_id,
                size=vectors.shape[1],
                vectors=vectors.astype("<f4").tobytes(),
                num_tokens=job.num_tokens,
            )
        scores = vectors[:, 0] if self._ranks else _similarities(vectors[0], vectors[1:])
        return Scores(call_id=call.call_id, scores=scores.tolist(), num_tokens=job.num_tokens)


def call_failed(call_id: int, error: InferFluxError) -> CallFailed:
    """The answer to a call that cannot be answered."""
    return CallFailed(call_id=call_id, code=error.code, message=error.message, param=error.param)


def _check_count(count: int, param: str) -> None:
    if not 1 <= count <= MAX_INPUTS:
        raise InvalidRequestError(
            f"{param} must have 1 to {MAX_INPUTS} elements, not {count}", param=param
        )


def _similarities(query: Vectors, documents: Vectors) -> Vectors:
    """Cosines of the angles between a query `[size]` and documents `[documents, size]`."""
    lengths = np.linalg.norm(documents, axis=1) * np.linalg.norm(query)
    cosines: Vectors = documents @ query / np.maximum(lengths, np.finfo(np.float32).tiny)
    return cosines
