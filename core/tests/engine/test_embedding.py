"""Embedding beside generation, over a runner that counts tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from inferflux_core.engine import embedding
from inferflux_core.engine.adapters import AdapterRegistry
from inferflux_core.engine.calls import CallHandler
from inferflux_core.engine.preparation import RequestFactory
from inferflux_core.engine.protocol import (
    Answer,
    Call,
    CallFailed,
    Embed,
    Embeddings,
    Generate,
    Rank,
    Scores,
    TextPrompt,
    TokenPrompt,
)
from inferflux_core.engine.sampling_params import SamplingParams
from inferflux_core.errors import InvalidRequestError
from inferflux_core.testing import DeterministicRunner

LIMIT = 40
PASS = 3
"""Inputs of a pass; one that is longer than 20 tokens takes two passes of its own."""


class CountingRunner(DeterministicRunner):
    """An embedding has the length of its input and its largest token."""

    def __init__(self, *, ranks: bool = False, generates: bool = True) -> None:
        super().__init__()
        self.capabilities = replace(
            self.capabilities, embeds=True, ranks=ranks, generates=generates
        )
        self.passes: list[list[int]] = []

    @property
    def max_embedding_tokens(self) -> int:
        return LIMIT

    def pair(self, query: str, document: str) -> list[int]:
        return list(f"{query}{document}".encode())

    def embed(self, inputs: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        size = 1 if self.capabilities.ranks else 2
        start = 0
        while start < len(inputs):
            count = 1 if len(inputs[start]) > 20 else PASS
            batch = inputs[start : start + count]
            self.passes.append([len(token_ids) for token_ids in batch])
            if len(batch[0]) > 20:
                yield np.empty((0, size), np.float32)
            yield np.array([[len(ids), max(ids)][:size] for ids in batch], np.float32)
            start += len(batch)


def handler(runner: DeterministicRunner) -> CallHandler:
    factory = RequestFactory(runner.tokenizer, runner.capabilities)
    return CallHandler(runner, factory, AdapterRegistry(runner))


def run(calls: CallHandler, *given: Call) -> dict[int, Answer]:
    """Everything that is answered, in the order of the answers."""
    answers: dict[int, Answer] = {}
    for call in given:
        if (answer := calls.receive(call)) is not None:
            answers[answer.call_id] = answer
    while calls.busy:
        if (answer := calls.advance()) is not None:
            answers[answer.call_id] = answer
    return answers


def embed(call_id: int, *lengths: int) -> Embed:
    return Embed(call_id=call_id, inputs=[TokenPrompt(token_ids=[9] * n) for n in lengths])


def vectors(answer: Answer) -> list[list[float]]:
    assert isinstance(answer, Embeddings), answer
    numbers: list[list[float]] = (
        np.frombuffer(answer.vectors, "<f4").reshape(-1, answer.size).tolist()
    )
    return numbers


def test_inputs_keep_their_order_over_all_passes() -> None:
    lengths = [1 + n % 7 for n in range(50)]
    lengths[20] = 30
    (answer,) = run(handler(CountingRunner()), embed(1, *lengths)).values()
    assert vectors(answer) == [[n, 9] for n in lengths]
    assert isinstance(answer, Embeddings)
    assert answer.num_tokens == sum(lengths)


def test_one_pass_at_a_time() -> None:
    runner = CountingRunner()
    calls = handler(runner)
    assert calls.receive(embed(1, *[2] * 8)) is None
    answers = []
    for done in range(3):
        assert calls.busy
        assert len(runner.passes) == done
        answers.append(calls.advance())
    assert answers[:2] == [None, None]
    assert isinstance(answers[2], Embeddings)
    assert not calls.busy


def test_a_small_call_does_not_wait_for_the_end_of_a_large_one() -> None:
    answers = run(handler(CountingRunner()), embed(1, *[2] * 200), embed(2, 3))
    assert list(answers) == [2, 1]
    assert vectors(answers[2]) == [[3, 9]]
    assert vectors(answers[1]) == [[2, 9]] * 200


def test_calls_do_not_interfere_within_a_long_input() -> None:
    runner = CountingRunner()
    answers = run(handler(runner), embed(1, 30, 31), embed(2, 32))
    assert [vectors(answers[call_id]) for call_id in (1, 2)] == [[[30, 9], [31, 9]], [[32, 9]]]
    assert runner.passes == [[30], [31], [32]]


def test_a_call_that_was_given_up_is_not_computed() -> None:
    runner = CountingRunner()
    calls = handler(runner)
    calls.receive(embed(1, *[2] * 100))
    calls.receive(embed(2, 3))
    calls.advance()
    calls.abort(1)
    calls.abort(99)
    answers = run(calls)
    assert list(answers) == [2]
    assert runner.passes == [[2, 2, 2], [3]]


def test_similarities_stand_in_for_scores() -> None:
    call = Rank(call_id=1, query="ab", documents=["ab", "zzzzzzzz"])
    (answer,) = run(handler(CountingRunner()), call).values()
    assert isinstance(answer, Scores)
    assert answer.scores[0] == pytest.approx(1)
    assert answer.scores[1] < answer.scores[0]


def test_models_that_rank_score_pairs() -> None:
    call = Rank(call_id=1, query="abc", documents=["d", "defg"])
    (answer,) = run(handler(CountingRunner(ranks=True)), call).values()
    assert answer == Scores(call_id=1, scores=[4, 7], num_tokens=11)


@pytest.mark.parametrize(
    ("call", "param", "reason"),
    [
        (embed(1), "input", "1 to 2048 elements, not 0"),
        (embed(1, *[1] * 2049), "input", "not 2049"),
        (embed(1, 5, 0), "input", "input 1 is empty"),
        (embed(1, 5, 41), "input", "input 1 has 41 tokens and this model embeds at most 40"),
        (Rank(call_id=1, query="a", documents=[]), "documents", "not 0"),
        (Embed(call_id=1, inputs=[TokenPrompt(token_ids=[999])]), "prompt", "token id 999"),
    ],
)
def test_limits(call: Call, param: str, reason: str) -> None:
    (answer,) = run(handler(CountingRunner()), call).values()
    assert isinstance(answer, CallFailed)
    assert (answer.code, answer.param) == ("invalid_request", param)
    assert reason in answer.message


def test_inputs_are_limited_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "MAX_TOKENS", 10)
    (answer,) = run(handler(CountingRunner()), embed(1, 5, 6)).values()
    assert isinstance(answer, CallFailed)
    assert "11 tokens together and 10 are allowed" in answer.message


@pytest.mark.parametrize(
    ("runner", "call", "reason"),
    [
        (DeterministicRunner(), embed(1, 1), "has no embeddings"),
        (DeterministicRunner(), Rank(call_id=1, query="a", documents=["b"]), "has no embeddings"),
        (CountingRunner(ranks=True), embed(1, 1), "use /v1/rerank"),
    ],
)
def test_models_that_cannot(runner: DeterministicRunner, call: Call, reason: str) -> None:
    (answer,) = run(handler(runner), call).values()
    assert isinstance(answer, CallFailed)
    assert reason in answer.message


def test_numbers_that_are_none_are_an_error() -> None:
    class Broken(CountingRunner):
        def embed(self, inputs: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
            yield np.full((len(inputs), 2), np.nan, np.float32)

    (answer,) = run(handler(Broken()), embed(1, 1)).values()
    assert isinstance(answer, CallFailed)
    assert answer.code == "engine_error"


def test_models_that_only_embed_refuse_to_generate() -> None:
    runner = CountingRunner(generates=False)
    factory = RequestFactory(runner.tokenizer, runner.capabilities)
    command = Generate(request_id=1, prompt=TextPrompt(text="a"), params=SamplingParams())
    with pytest.raises(InvalidRequestError, match="only embeds"):
        factory.build(command)
